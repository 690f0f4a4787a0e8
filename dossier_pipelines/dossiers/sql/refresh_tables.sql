-- The working tables of one refresh, gone at its commit.
-- refresh_keys: one row per dossier to recompute, with the moment and the windows that apply to it.
CREATE TEMPORARY TABLE refresh_keys (
    ordinal integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    dossier_id uuid NOT NULL,
    settings_type text NOT NULL,
    timezone text NOT NULL,
    as_of timestamptz NOT NULL,
    year_start timestamptz NOT NULL,
    quarter_start timestamptz NOT NULL,
    today date NOT NULL,
    stale boolean NOT NULL,
    engagement_ids uuid[],
    commitment_ids uuid[]
) ON COMMIT DROP;
-- refreshed: the same dossiers, computed.
CREATE TEMPORARY TABLE refreshed (
    tenant_id text COLLATE "C" NOT NULL,
    dossier_id uuid NOT NULL,
    total_engagements_365d integer NOT NULL,
    recent_engagements_90d integer NOT NULL,
    latest_engagement_date timestamptz,
    engagement_frequency_score numeric(5, 2) NOT NULL,
    total_commitments integer NOT NULL,
    active_commitments integer NOT NULL,
    overdue_commitments integer NOT NULL,
    fulfilled_commitments integer NOT NULL,
    upcoming_commitments integer NOT NULL,
    fulfillment_rate integer NOT NULL,
    recency integer NOT NULL,
    overall_score integer,
    band text NOT NULL,
    insufficient_reason text,
    stale_at timestamptz NOT NULL,
    as_of timestamptz NOT NULL,
    today date NOT NULL,
    stale boolean NOT NULL,
    engagement_ids uuid[],
    commitment_ids uuid[]
) ON COMMIT DROP;
