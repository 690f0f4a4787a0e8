-- The dossiers that one refresh recomputes, with the moment and the windows that apply to each. refresh.py makes it a
-- working table of its transaction.
-- Grain: one row per dossier; one that is gone has no settings_type. The last columns are for explanations: whether
-- the type changed, and {id: what it was} of the records that changed.
CREATE TEMPORARY TABLE refresh_keys (
    ordinal integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    dossier_id uuid NOT NULL,
    settings_type text,
    as_of timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    year_start timestamptz NOT NULL,
    quarter_start timestamptz NOT NULL,
    today date NOT NULL,
    midnight timestamptz NOT NULL,
    stale boolean NOT NULL,
    retyped boolean NOT NULL,
    engagements_before jsonb,
    commitments_before jsonb
) ON COMMIT DROP
