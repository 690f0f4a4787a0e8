-- The dossiers that one refresh recomputes, with the moment and the windows that apply to each.
-- Grain: one row per dossier; one that is gone has no settings_type. The last columns are for explanations: whether
-- the type changed, and {id: what it was} of the records that changed. Made and dropped in the transaction of the refresh, so that nobody else ever sees it;
-- unlogged rather than temporary, because PostgreSQL reads temporary tables in one process only.
CREATE UNLOGGED TABLE dossiers.refresh_keys (
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
);
