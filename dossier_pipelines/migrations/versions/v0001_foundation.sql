-- The schema of version 0001: platform, ingestion, raw, dossiers.

CREATE SCHEMA IF NOT EXISTS platform;

CREATE SCHEMA IF NOT EXISTS ingestion;

CREATE SCHEMA IF NOT EXISTS raw;

CREATE SCHEMA IF NOT EXISTS dossiers;

CREATE TABLE dossiers.commitment_stats (
    tenant_id TEXT COLLATE "C" NOT NULL,
    dossier_id UUID NOT NULL,
    total_commitments INTEGER NOT NULL,
    active_commitments INTEGER NOT NULL,
    overdue_commitments INTEGER NOT NULL,
    fulfilled_commitments INTEGER NOT NULL,
    upcoming_commitments INTEGER NOT NULL,
    fulfillment_rate INTEGER NOT NULL,
    CONSTRAINT commitment_stats_pkey PRIMARY KEY (tenant_id, dossier_id)
);

COMMENT ON TABLE dossiers.commitment_stats IS 'Per dossier: what was promised, kept and missed';
COMMENT ON COLUMN dossiers.commitment_stats.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.commitment_stats.dossier_id IS 'The dossier';
COMMENT ON COLUMN dossiers.commitment_stats.total_commitments IS 'Commitments that are not cancelled';
COMMENT ON COLUMN dossiers.commitment_stats.active_commitments IS 'Pending or in progress';
COMMENT ON COLUMN dossiers.commitment_stats.overdue_commitments IS 'Due before today, not completed, not cancelled';
COMMENT ON COLUMN dossiers.commitment_stats.fulfilled_commitments IS 'Completed, late or not';
COMMENT ON COLUMN dossiers.commitment_stats.upcoming_commitments IS 'Due from today to today + 30 days, not completed, not cancelled';
COMMENT ON COLUMN dossiers.commitment_stats.fulfillment_rate IS '0-100: round(100 x fulfilled / total); 100 when total is 0';

CREATE TABLE dossiers.engagement_stats (
    tenant_id TEXT COLLATE "C" NOT NULL,
    dossier_id UUID NOT NULL,
    total_engagements_365d INTEGER NOT NULL,
    recent_engagements_90d INTEGER NOT NULL,
    latest_engagement_date TIMESTAMP WITH TIME ZONE,
    engagement_frequency_score NUMERIC(5, 2) NOT NULL,
    CONSTRAINT engagement_stats_pkey PRIMARY KEY (tenant_id, dossier_id)
);

COMMENT ON TABLE dossiers.engagement_stats IS 'Per dossier: how often and how lately there was contact';
COMMENT ON COLUMN dossiers.engagement_stats.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.engagement_stats.dossier_id IS 'The dossier';
COMMENT ON COLUMN dossiers.engagement_stats.total_engagements_365d IS 'Engagements in the last 365 days';
COMMENT ON COLUMN dossiers.engagement_stats.recent_engagements_90d IS 'Engagements in the last 90 days';
COMMENT ON COLUMN dossiers.engagement_stats.latest_engagement_date IS 'Newest engagement; null if none';
COMMENT ON COLUMN dossiers.engagement_stats.engagement_frequency_score IS '0-100: least(100, 100 x total_engagements_365d / yearly target); with the target of 50, 2 x total';

CREATE TABLE dossiers.health_refreshes (
    tenant_id TEXT COLLATE "C" NOT NULL,
    refresh_id BIGINT GENERATED ALWAYS AS IDENTITY,
    mode TEXT NOT NULL,
    as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    settings_version TEXT NOT NULL,
    refreshed INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    drifted INTEGER NOT NULL,
    drifted_dossiers UUID[] NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    run_id TEXT,
    CONSTRAINT health_refreshes_pkey PRIMARY KEY (tenant_id, refresh_id),
    CONSTRAINT health_refreshes_mode_check CHECK (mode IN ('incremental', 'full'))
);

COMMENT ON TABLE dossiers.health_refreshes IS 'One row per tenant and refresh';
COMMENT ON COLUMN dossiers.health_refreshes.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.health_refreshes.mode IS 'incremental, or full: every dossier recomputed';
COMMENT ON COLUMN dossiers.health_refreshes.as_of IS 'The moment it was computed for';
COMMENT ON COLUMN dossiers.health_refreshes.settings_version IS 'The weights and thresholds used';
COMMENT ON COLUMN dossiers.health_refreshes.refreshed IS 'Dossiers recomputed';
COMMENT ON COLUMN dossiers.health_refreshes.changed IS 'Of these, those whose score or components changed';
COMMENT ON COLUMN dossiers.health_refreshes.drifted IS 'Dossiers that nothing marked as stale, and yet differed';
COMMENT ON COLUMN dossiers.health_refreshes.drifted_dossiers IS 'At most 20 of them';
COMMENT ON COLUMN dossiers.health_refreshes.run_id IS 'The Dagster run';

CREATE TABLE dossiers.health_scores (
    tenant_id TEXT COLLATE "C" NOT NULL,
    dossier_id UUID NOT NULL,
    engagement_frequency NUMERIC(5, 2) NOT NULL,
    commitment_fulfillment INTEGER NOT NULL,
    recency INTEGER NOT NULL,
    overall_score INTEGER,
    band TEXT NOT NULL,
    insufficient_reason TEXT,
    previous_score INTEGER,
    changed_at TIMESTAMP WITH TIME ZONE,
    factors JSONB NOT NULL,
    settings_version TEXT NOT NULL,
    as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    stale_at TIMESTAMP WITH TIME ZONE NOT NULL,
    calculated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT health_scores_pkey PRIMARY KEY (tenant_id, dossier_id),
    CONSTRAINT health_scores_overall_score_check CHECK (overall_score BETWEEN 0 AND 100),
    CONSTRAINT health_scores_band_check CHECK (band IN ('excellent', 'good', 'fair', 'poor', 'insufficient_data'))
);

CREATE INDEX health_scores_stale_idx ON dossiers.health_scores (tenant_id, stale_at);
COMMENT ON TABLE dossiers.health_scores IS 'Per dossier: the health of the relationship, its components and what last moved it';
COMMENT ON COLUMN dossiers.health_scores.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.health_scores.dossier_id IS 'The dossier';
COMMENT ON COLUMN dossiers.health_scores.engagement_frequency IS '0-100, from engagement_stats';
COMMENT ON COLUMN dossiers.health_scores.commitment_fulfillment IS '0-100, from commitment_stats';
COMMENT ON COLUMN dossiers.health_scores.recency IS '100, 70, 40 or 10 by days since the latest engagement';
COMMENT ON COLUMN dossiers.health_scores.overall_score IS '0-100: weighted sum, rounded; null without enough data';
COMMENT ON COLUMN dossiers.health_scores.band IS 'excellent, good, fair, poor or insufficient_data';
COMMENT ON COLUMN dossiers.health_scores.insufficient_reason IS 'What is missing for a score';
COMMENT ON COLUMN dossiers.health_scores.previous_score IS 'The score before the last change';
COMMENT ON COLUMN dossiers.health_scores.changed_at IS 'As of which moment the score or its components last changed';
COMMENT ON COLUMN dossiers.health_scores.factors IS 'What changed it then: [{factor, count, text, records}]';
COMMENT ON COLUMN dossiers.health_scores.settings_version IS 'The weights and thresholds it was computed with';
COMMENT ON COLUMN dossiers.health_scores.as_of IS 'The moment it was computed for';
COMMENT ON COLUMN dossiers.health_scores.stale_at IS 'From when on it is stale: 60 minutes after as_of, or when time alone changes a statistic of it';
COMMENT ON COLUMN dossiers.health_scores.calculated_at IS 'When it was computed';

CREATE TABLE dossiers.health_settings (
    tenant_id TEXT COLLATE "C" NOT NULL,
    version TEXT NOT NULL,
    dossier_type TEXT NOT NULL,
    weight_engagement NUMERIC(6, 4) NOT NULL,
    weight_commitment NUMERIC(6, 4) NOT NULL,
    weight_recency NUMERIC(6, 4) NOT NULL,
    yearly_target INTEGER NOT NULL,
    min_engagements INTEGER NOT NULL,
    min_commitments INTEGER NOT NULL,
    fresh_days INTEGER NOT NULL,
    recent_days INTEGER NOT NULL,
    distant_days INTEGER NOT NULL,
    fresh_points INTEGER NOT NULL,
    recent_points INTEGER NOT NULL,
    distant_points INTEGER NOT NULL,
    silent_points INTEGER NOT NULL,
    excellent_from INTEGER NOT NULL,
    good_from INTEGER NOT NULL,
    fair_from INTEGER NOT NULL,
    first_used_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT health_settings_pkey PRIMARY KEY (tenant_id, version, dossier_type)
);

COMMENT ON TABLE dossiers.health_settings IS 'Every configuration that a score was computed with';
COMMENT ON COLUMN dossiers.health_settings.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.health_settings.version IS 'Hash of the whole configuration';
COMMENT ON COLUMN dossiers.health_settings.dossier_type IS 'The type it is for; * for every other';
COMMENT ON COLUMN dossiers.health_settings.yearly_target IS 'Engagements a year that count as 100';
COMMENT ON COLUMN dossiers.health_settings.min_engagements IS 'Fewer in 365 days: no score';
COMMENT ON COLUMN dossiers.health_settings.min_commitments IS 'Fewer: no score';

CREATE TABLE ingestion.loads (
    tenant_id TEXT COLLATE "C" NOT NULL,
    load_id BIGINT GENERATED ALWAYS AS IDENTITY,
    entity TEXT NOT NULL,
    source TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    outcome TEXT NOT NULL,
    rows_read BIGINT NOT NULL,
    inserted BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    unchanged BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    run_id TEXT,
    CONSTRAINT loads_pkey PRIMARY KEY (tenant_id, load_id),
    CONSTRAINT loads_outcome_check CHECK (outcome IN ('merged', 'refused'))
);

CREATE INDEX loads_tenant_id_entity_load_id_idx ON ingestion.loads (tenant_id, entity, load_id);
COMMENT ON TABLE ingestion.loads IS 'One row per entity and load';
COMMENT ON COLUMN ingestion.loads.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN ingestion.loads.entity IS 'engagements, commitments, ...';
COMMENT ON COLUMN ingestion.loads.source IS 'The source, without credentials';
COMMENT ON COLUMN ingestion.loads.outcome IS 'merged, or refused (nothing was changed)';
COMMENT ON COLUMN ingestion.loads.run_id IS 'The Dagster run';

CREATE TABLE ingestion.rejected_rows (
    tenant_id TEXT COLLATE "C" NOT NULL,
    entity TEXT NOT NULL,
    source TEXT NOT NULL,
    row_number BIGINT NOT NULL,
    reason TEXT NOT NULL,
    raw_row JSONB NOT NULL,
    load_id BIGINT NOT NULL,
    CONSTRAINT rejected_rows_pkey PRIMARY KEY (tenant_id, entity, source, row_number)
);

COMMENT ON TABLE ingestion.rejected_rows IS 'Rows set aside by the newest load of each source; a corrected source empties its part';
COMMENT ON COLUMN ingestion.rejected_rows.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN ingestion.rejected_rows.entity IS 'engagements, commitments, ...';
COMMENT ON COLUMN ingestion.rejected_rows.source IS 'The file, table or path, without credentials';
COMMENT ON COLUMN ingestion.rejected_rows.row_number IS 'Row in the source; in a file the header is row 1';
COMMENT ON COLUMN ingestion.rejected_rows.reason IS 'What is wrong, in words';
COMMENT ON COLUMN ingestion.rejected_rows.raw_row IS 'The row as the source gave it';
COMMENT ON COLUMN ingestion.rejected_rows.load_id IS 'The load that set it aside';

CREATE TABLE platform.stale_marks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    consumer TEXT NOT NULL,
    dossier_id UUID NOT NULL,
    entity TEXT NOT NULL,
    record_ids UUID[] NOT NULL,
    marked_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE platform.stale_marks IS 'What changed and has not been recomputed yet';
COMMENT ON COLUMN platform.stale_marks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN platform.stale_marks.consumer IS 'Who has to recompute';
COMMENT ON COLUMN platform.stale_marks.dossier_id IS 'What has to be recomputed';
COMMENT ON COLUMN platform.stale_marks.entity IS 'Which records changed: engagements, commitments, ...';
COMMENT ON COLUMN platform.stale_marks.record_ids IS 'The changed records, at most 20 of them';
COMMENT ON COLUMN platform.stale_marks.marked_at IS 'When it was marked';

CREATE TABLE platform.tenants (
    tenant_id TEXT COLLATE "C" NOT NULL,
    timezone TEXT NOT NULL,
    clock_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id)
);

COMMENT ON TABLE platform.tenants IS 'Who the data belongs to, and in which time zone and at which moment they live';
COMMENT ON COLUMN platform.tenants.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN platform.tenants.timezone IS 'IANA time zone that decides what ''today'' is';
COMMENT ON COLUMN platform.tenants.clock_at IS 'The moment at which this tenant''s records end; null means the present';

CREATE TABLE raw.commitments (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    dossier_id UUID NOT NULL,
    description TEXT,
    status TEXT NOT NULL,
    due_date DATE,
    owner_id UUID,
    external_contact TEXT,
    priority TEXT,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT commitments_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT commitments_status_check CHECK (status IN ('pending', 'in_progress', 'completed', 'cancelled', 'overdue')),
    CONSTRAINT commitments_priority_check CHECK (priority IN ('low', 'medium', 'high', 'critical'))
);

CREATE INDEX commitments_dossier_idx ON raw.commitments (tenant_id, dossier_id);
COMMENT ON TABLE raw.commitments IS 'Who promised what by when';
COMMENT ON COLUMN raw.commitments.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.commitments.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.commitments.dossier_id IS 'The dossier it belongs to';
COMMENT ON COLUMN raw.commitments.description IS 'What was promised';
COMMENT ON COLUMN raw.commitments.status IS 'pending, in_progress, completed, cancelled or overdue';
COMMENT ON COLUMN raw.commitments.due_date IS 'The day by whose end it is due; null when unknown';
COMMENT ON COLUMN raw.commitments.owner_id IS 'The internal user who answers for it';
COMMENT ON COLUMN raw.commitments.external_contact IS 'Or the contact outside';
COMMENT ON COLUMN raw.commitments.priority IS 'low, medium, high or critical';
COMMENT ON COLUMN raw.commitments.created_at IS 'When it was made';
COMMENT ON COLUMN raw.commitments.updated_at IS 'When the source last changed it';
COMMENT ON COLUMN raw.commitments.completed_at IS 'When it was completed';
COMMENT ON COLUMN raw.commitments.cancelled_at IS 'When it was cancelled';
COMMENT ON COLUMN raw.commitments.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.commitments.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.commitments.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.documents (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    dossier_id UUID NOT NULL,
    type TEXT,
    created_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT documents_pkey PRIMARY KEY (tenant_id, id)
);

CREATE INDEX documents_dossier_idx ON raw.documents (tenant_id, dossier_id);
COMMENT ON TABLE raw.documents IS 'Documents filed in a dossier';
COMMENT ON COLUMN raw.documents.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.documents.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.documents.dossier_id IS 'The dossier it belongs to';
COMMENT ON COLUMN raw.documents.type IS 'Kind of document';
COMMENT ON COLUMN raw.documents.created_at IS 'When it was filed';
COMMENT ON COLUMN raw.documents.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.documents.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.documents.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.dossiers (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    type TEXT,
    region TEXT,
    bloc TEXT,
    classification TEXT,
    owner_id UUID,
    created_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT dossiers_pkey PRIMARY KEY (tenant_id, id)
);

COMMENT ON TABLE raw.dossiers IS 'The files that an institution keeps on its counterparts';
COMMENT ON COLUMN raw.dossiers.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.dossiers.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.dossiers.name IS 'The counterpart';
COMMENT ON COLUMN raw.dossiers.type IS 'country, organization, forum, ...';
COMMENT ON COLUMN raw.dossiers.region IS 'Region of the counterpart';
COMMENT ON COLUMN raw.dossiers.bloc IS 'Bloc or group that it belongs to';
COMMENT ON COLUMN raw.dossiers.classification IS 'Who may read the dossier';
COMMENT ON COLUMN raw.dossiers.owner_id IS 'The user who keeps the dossier';
COMMENT ON COLUMN raw.dossiers.created_at IS 'When the dossier was opened';
COMMENT ON COLUMN raw.dossiers.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.dossiers.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.dossiers.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.engagements (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    dossier_id UUID NOT NULL,
    type TEXT,
    description TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT engagements_pkey PRIMARY KEY (tenant_id, id)
);

CREATE INDEX engagements_dossier_occurred_idx ON raw.engagements (tenant_id, dossier_id, occurred_at);
COMMENT ON TABLE raw.engagements IS 'Meetings, visits, consultations and other contacts with a counterpart';
COMMENT ON COLUMN raw.engagements.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.engagements.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.engagements.dossier_id IS 'The dossier it belongs to';
COMMENT ON COLUMN raw.engagements.type IS 'meeting, visit, consultation, ...';
COMMENT ON COLUMN raw.engagements.description IS 'What it was about';
COMMENT ON COLUMN raw.engagements.occurred_at IS 'When it took place';
COMMENT ON COLUMN raw.engagements.created_at IS 'When it was recorded';
COMMENT ON COLUMN raw.engagements.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.engagements.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.engagements.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.users (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    name TEXT,
    email TEXT,
    phone TEXT,
    role TEXT,
    locale TEXT,
    timezone TEXT,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT users_pkey PRIMARY KEY (tenant_id, id)
);

COMMENT ON TABLE raw.users IS 'The people who own dossiers and commitments';
COMMENT ON COLUMN raw.users.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.users.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.users.name IS 'Name';
COMMENT ON COLUMN raw.users.email IS 'Mail address';
COMMENT ON COLUMN raw.users.phone IS 'Telephone';
COMMENT ON COLUMN raw.users.role IS 'Role';
COMMENT ON COLUMN raw.users.locale IS 'Language for messages';
COMMENT ON COLUMN raw.users.timezone IS 'IANA time zone of the person';
COMMENT ON COLUMN raw.users.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.users.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.users.source_hash IS 'Hash of the source row, to tell an unchanged one';

-- The id of a record whose source key is no UUID: RFC 9562 version 3 in the project's namespace, so that
-- Python's uuid.uuid3(NAMESPACE, entity || ':' || key) gives the same. A key that is a UUID is itself.
CREATE OR REPLACE FUNCTION ingestion.stable_uuid(entity text, source_key text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE RETURN (
    SELECT CAST(overlay(overlay(digest PLACING '3' FROM 13 FOR 1)
        PLACING translate(substr(digest, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab') FROM 17 FOR 1) AS uuid)
    FROM (SELECT md5(decode('7f1d2c7e3c1b5d0c9a5e6a1f0b9d4e21', 'hex')
        || convert_to(entity || ':' || source_key, 'UTF8')) AS digest) AS hashed
);

-- Statement triggers that note which dossiers a change of their records makes stale. They see direct changes
-- with psql as well as our own merges; a change that no statistic depends on leaves no mark. Of a bulk change 20
-- record ids per dossier are kept, enough to explain a score; the dossier is what counts.
-- A mark names its records by what they were before the change, so that a refresh can tell what became of them:
-- new (not there, or in another dossier), known (engagements), open, rescheduled (open, with another due date),
-- completed or cancelled (commitments).
CREATE OR REPLACE FUNCTION dossiers.mark_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, TG_TABLE_NAME || ' new', (array_agg(id))[1:20]
    FROM new_rows GROUP BY tenant_id, dossier_id;
    RETURN NULL;
END $$;

-- A record that moved to another dossier makes both stale.
CREATE OR REPLACE FUNCTION dossiers.mark_updated_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', t.dossier_id, 'engagements ' || t.was, (array_agg(id))[1:20]
    FROM old_rows AS o
    FULL JOIN new_rows AS n USING (tenant_id, id)
    CROSS JOIN LATERAL (VALUES
        (o.dossier_id, 'known'), (CASE WHEN n.dossier_id IS DISTINCT FROM o.dossier_id THEN n.dossier_id END, 'new')
    ) AS t (dossier_id, was)
    WHERE (o.dossier_id, o.occurred_at) IS DISTINCT FROM (n.dossier_id, n.occurred_at) AND t.dossier_id IS NOT NULL
    GROUP BY tenant_id, t.dossier_id, t.was;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_updated_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', t.dossier_id, 'commitments ' || t.was, (array_agg(id))[1:20]
    FROM old_rows AS o
    FULL JOIN new_rows AS n USING (tenant_id, id)
    CROSS JOIN LATERAL (VALUES
        (o.dossier_id, CASE WHEN o.status IN ('completed', 'cancelled') THEN o.status
            WHEN n.due_date IS DISTINCT FROM o.due_date THEN 'rescheduled' ELSE 'open' END),
        (CASE WHEN n.dossier_id IS DISTINCT FROM o.dossier_id THEN n.dossier_id END, 'new')
    ) AS t (dossier_id, was)
    WHERE (o.dossier_id, o.status, o.due_date, o.created_at, o.completed_at, o.cancelled_at)
            IS DISTINCT FROM (n.dossier_id, n.status, n.due_date, n.created_at, n.completed_at, n.cancelled_at)
        AND t.dossier_id IS NOT NULL
    GROUP BY tenant_id, t.dossier_id, t.was;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_deleted_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, 'engagements known', (array_agg(id))[1:20]
    FROM old_rows GROUP BY tenant_id, dossier_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_deleted_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, 'commitments ' || was, (array_agg(id))[1:20]
    FROM (
        SELECT *, CASE WHEN status IN ('completed', 'cancelled') THEN status ELSE 'open' END AS was FROM old_rows
    ) AS o
    GROUP BY tenant_id, dossier_id, was;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, TG_TABLE_NAME, '{}' FROM raw.dossiers;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_inserted_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers new', ARRAY[id] FROM new_rows;
    RETURN NULL;
END $$;

-- Of a dossier the type decides the settings. One that got another id is two dossiers, one of them gone.
CREATE OR REPLACE FUNCTION dossiers.mark_updated_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers retyped', ARRAY[id]
    FROM old_rows AS o
    FULL JOIN new_rows AS n USING (tenant_id, id)
    WHERE (o.type, o.name IS NULL) IS DISTINCT FROM (n.type, n.name IS NULL);
    RETURN NULL;
END $$;

-- The time zone decides what "today" is.
CREATE OR REPLACE FUNCTION dossiers.mark_moved_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT d.tenant_id, 'dossiers.health', d.id, TG_TABLE_NAME, '{}'
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.timezone <> o.timezone
    JOIN raw.dossiers AS d ON d.tenant_id = n.tenant_id;
    RETURN NULL;
END $$;

-- Deleting a dossier removes everything derived from it. A foreign key would do the same at the price of a probe
-- per loaded engagement, a third of the time of a bulk load; merges check references in one join instead.
-- What a running refresh holds is skipped rather than waited for, which could end in a deadlock; the mark makes the
-- next refresh remove it.
CREATE OR REPLACE FUNCTION dossiers.remove_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM raw.engagements AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.commitments AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.documents AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM dossiers.health_scores AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.health_scores AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    DELETE FROM dossiers.engagement_stats AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.engagement_stats AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    DELETE FROM dossiers.commitment_stats AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.commitment_stats AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers known', ARRAY[id] FROM old_rows;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.remove_all_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE raw.engagements, raw.commitments, raw.documents,
        dossiers.engagement_stats, dossiers.commitment_stats, dossiers.health_scores;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.engagements
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_inserted();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_updated_engagements();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_deleted_engagements();
CREATE OR REPLACE TRIGGER mark_all AFTER TRUNCATE ON raw.engagements
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_all();
CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_inserted();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_updated_commitments();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_deleted_commitments();
CREATE OR REPLACE TRIGGER mark_all AFTER TRUNCATE ON raw.commitments
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_all();
CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.dossiers
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_inserted_dossiers();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_updated_dossiers();
CREATE OR REPLACE TRIGGER remove_derived AFTER DELETE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.remove_derived();
CREATE OR REPLACE TRIGGER remove_all_derived AFTER TRUNCATE ON raw.dossiers
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.remove_all_derived();
CREATE OR REPLACE TRIGGER mark_moved AFTER UPDATE ON platform.tenants
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_moved_tenants();

-- What an analyst queries. Grain of dossier_overview: one row per dossier; of health_by_group: one row per tenant,
-- grouping (region, bloc, classification, type) and value. Look-ups by dossier id use the primary keys.
CREATE OR REPLACE VIEW dossiers.dossier_overview WITH (security_invoker = true) AS
SELECT
    d.tenant_id, d.id AS dossier_id, d.source_key, d.name, d.type, d.region, d.bloc, d.classification, d.owner_id,
    e.total_engagements_365d, e.recent_engagements_90d, e.latest_engagement_date, e.engagement_frequency_score,
    c.total_commitments, c.active_commitments, c.overdue_commitments, c.fulfilled_commitments,
    c.upcoming_commitments, c.fulfillment_rate,
    s.recency, s.overall_score, s.band, s.insufficient_reason, s.previous_score,
    s.overall_score - s.previous_score AS score_change, s.changed_at, s.factors,
    s.as_of, s.calculated_at, s.settings_version,
    -- Where the tenant's clock stands still a score does not age.
    floor(extract(epoch FROM CASE WHEN t.clock_at IS NULL THEN greatest(now(), s.calculated_at) - s.calculated_at
        ELSE t.clock_at - s.as_of END) / 60)::integer AS score_age_minutes,
    (SELECT count(*) FROM raw.documents AS f WHERE f.tenant_id = d.tenant_id AND f.dossier_id = d.id) AS document_count
FROM raw.dossiers AS d
JOIN platform.tenants AS t ON t.tenant_id = d.tenant_id
LEFT JOIN dossiers.engagement_stats AS e ON e.tenant_id = d.tenant_id AND e.dossier_id = d.id
LEFT JOIN dossiers.commitment_stats AS c ON c.tenant_id = d.tenant_id AND c.dossier_id = d.id
LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id;

CREATE OR REPLACE VIEW dossiers.health_by_group WITH (security_invoker = true) AS
SELECT
    d.tenant_id, g.grouping, coalesce(g.value, 'not given') AS value,
    count(*) AS dossiers,
    round(avg(s.overall_score), 2) AS average_score,
    count(*) FILTER (WHERE s.band = 'excellent') AS excellent,
    count(*) FILTER (WHERE s.band = 'good') AS good,
    count(*) FILTER (WHERE s.band = 'fair') AS fair,
    count(*) FILTER (WHERE s.band = 'poor') AS poor,
    count(*) FILTER (WHERE s.band = 'insufficient_data') AS insufficient_data
FROM raw.dossiers AS d
LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id
CROSS JOIN LATERAL (VALUES
    ('region', d.region), ('bloc', d.bloc), ('classification', d.classification), ('type', d.type)
) AS g (grouping, value)
GROUP BY d.tenant_id, g.grouping, coalesce(g.value, 'not given');
