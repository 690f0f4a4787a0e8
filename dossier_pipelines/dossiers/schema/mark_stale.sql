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
    DELETE FROM dossiers.relationship_alerts AS r USING (
        SELECT s.tenant_id, s.id FROM dossiers.relationship_alerts AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.id = free.id;
    DELETE FROM dossiers.snapshot_spans AS r USING (
        SELECT s.tenant_id, s.dossier_id, s.year, s.first_day FROM dossiers.snapshot_spans AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id AND r.year = free.year
        AND r.first_day = free.first_day;
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers known', ARRAY[id] FROM old_rows;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.remove_all_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE raw.engagements, raw.commitments, raw.documents,
        dossiers.engagement_stats, dossiers.commitment_stats, dossiers.health_scores, dossiers.relationship_alerts,
        dossiers.snapshot_spans, dossiers.snapshot_days, dossiers.snapshot_marks, dossiers.snapshot_chunks;
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
