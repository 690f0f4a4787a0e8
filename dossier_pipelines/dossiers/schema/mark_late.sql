-- Statement triggers that note whose daily snapshots a change of their records has overtaken, and from which moment on:
-- an engagement that is entered a week late, a completion that is reported afterwards, a promise that gets another due
-- date. A change after the newest snapshot leaves no mark, and without any snapshot nothing is looked at.

CREATE OR REPLACE FUNCTION dossiers.newest_snapshot_end(tenant text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (
    SELECT platform.day_end(r.newest_day, t.timezone)
    FROM dossiers.snapshot_reach AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE r.tenant_id = tenant
);

-- One that came, or is gone.
CREATE OR REPLACE FUNCTION dossiers.late_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT r.tenant_id, r.dossier_id, min(r.occurred_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id, r.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_changed_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT x.tenant_id, x.dossier_id, min(x.since) AS since
        FROM (
            SELECT tenant_id, t.dossier_id, t.since
            FROM old_rows AS o
            FULL JOIN new_rows AS n USING (tenant_id, id)
            CROSS JOIN LATERAL (VALUES (o.dossier_id, o.occurred_at), (n.dossier_id, n.occurred_at))
                AS t (dossier_id, since)
            WHERE (o.dossier_id, o.occurred_at) IS DISTINCT FROM (n.dossier_id, n.occurred_at)
        ) AS x
        WHERE x.dossier_id IS NOT NULL
        GROUP BY x.tenant_id, x.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- A commitment counts from when it was made; one that has always been there changes every day.
CREATE OR REPLACE FUNCTION dossiers.late_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT r.tenant_id, r.dossier_id, min(coalesce(r.created_at, '-infinity')) AS since
        FROM changed_rows AS r GROUP BY r.tenant_id, r.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- Due dates have no history: another one changes all days since the commitment was made.
CREATE OR REPLACE FUNCTION dossiers.late_changed_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT x.tenant_id, x.dossier_id, min(coalesce(x.since, '-infinity')) AS since
        FROM (
            SELECT tenant_id, t.dossier_id, t.since
            FROM old_rows AS o
            FULL JOIN new_rows AS n USING (tenant_id, id)
            CROSS JOIN LATERAL (VALUES (o.dossier_id, o.created_at), (n.dossier_id, n.created_at))
                AS t (dossier_id, since)
            WHERE (o.dossier_id, o.due_date, o.created_at) IS DISTINCT FROM (n.dossier_id, n.due_date, n.created_at)
            UNION ALL
            SELECT n.tenant_id, n.dossier_id,
                -- The other end is told along with the present one, whether its date is new or was there before. least()
                -- passes over null, which here is the earliest of all.
                CASE WHEN n.status_since IS NOT NULL AND (n.status <> o.status OR o.status_since IS NOT NULL) THEN least(
                    n.status_since,
                    CASE WHEN n.status = o.status THEN o.status_since
                        WHEN n.status = 'cancelled' AND o.status <> 'completed' THEN n.completed_at
                        WHEN n.status = 'completed' AND o.status <> 'cancelled' THEN n.cancelled_at END
                ) END
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE (o.status, o.status_since, o.completed_at, o.cancelled_at)
                IS DISTINCT FROM (n.status, n.status_since, n.completed_at, n.cancelled_at)
        ) AS x
        WHERE x.dossier_id IS NOT NULL
        GROUP BY x.tenant_id, x.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- A dossier that was opened, closed, or got other settings by its type.
CREATE OR REPLACE FUNCTION dossiers.late_new_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT n.tenant_id, n.id, n.created_at FROM new_rows AS n
    WHERE coalesce(n.created_at, '-infinity') <= dossiers.newest_snapshot_end(n.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_changed_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT tenant_id, id, NULL
    FROM old_rows AS o
    FULL JOIN new_rows AS n USING (tenant_id, id)
    WHERE (o.type, o.created_at, o.name IS NULL) IS DISTINCT FROM (n.type, n.created_at, n.name IS NULL)
        AND dossiers.newest_snapshot_end(tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_deleted_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT o.tenant_id, o.id, NULL FROM old_rows AS o WHERE dossiers.newest_snapshot_end(o.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT d.tenant_id, d.id, NULL FROM raw.dossiers AS d WHERE dossiers.newest_snapshot_end(d.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_moved_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT d.tenant_id, d.id, NULL
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.timezone <> o.timezone
    JOIN raw.dossiers AS d ON d.tenant_id = n.tenant_id
    WHERE dossiers.newest_snapshot_end(d.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.engagements
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_engagements();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_engagements();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.engagements
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_engagements();
CREATE OR REPLACE TRIGGER late_all AFTER TRUNCATE ON raw.engagements
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_all();
CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_commitments();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_commitments();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_commitments();
CREATE OR REPLACE TRIGGER late_all AFTER TRUNCATE ON raw.commitments
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_all();
CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.dossiers
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_new_dossiers();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_dossiers();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_deleted_dossiers();
CREATE OR REPLACE TRIGGER late_moved AFTER UPDATE ON platform.tenants
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_moved_tenants();
