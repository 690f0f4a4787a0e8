-- Every status that a task had: the source dates its creation and its completion, any other change counts from the moment
-- at which we learn of it, which is that of the run for one that computes as of a moment, and the tenant's clock else.

CREATE OR REPLACE FUNCTION litigation.learnt_at(tenant text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN coalesce(
    CAST(nullif(current_setting('platform.noticed_at', true), '') AS timestamptz),
    (SELECT t.clock_at FROM platform.tenants AS t WHERE t.tenant_id = tenant),
    clock_timestamp()
);

CREATE OR REPLACE FUNCTION litigation.keep_new_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_history (tenant_id, task_id, ordinal, status, valid_from)
    SELECT n.tenant_id, n.id, h.ordinal, h.status, h.valid_from
    FROM new_rows AS n
    CROSS JOIN LATERAL (
        -- It was open before it ended.
        SELECT 0 AS ordinal, CASE n.status WHEN 'in_progress' THEN n.status ELSE 'pending' END AS status, n.created_at AS valid_from
        UNION ALL
        SELECT 1, n.status, greatest(n.created_at,
            CASE n.status WHEN 'completed' THEN coalesce(n.completed_at, n.created_at) ELSE litigation.learnt_at(n.tenant_id) END)
        WHERE n.status IN ('completed', 'cancelled')
    ) AS h;
    RETURN NULL;
END $$;

-- Another date of the creation, or of the same completion, corrects what is known of it; another status follows.
CREATE OR REPLACE FUNCTION litigation.keep_changed_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_history AS k (tenant_id, task_id, ordinal, status, valid_from)
    SELECT n.tenant_id, n.id, created.ordinal, created.status, n.created_at
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
    CROSS JOIN LATERAL (
        SELECT h.ordinal, h.status FROM litigation.task_history AS h
        WHERE h.tenant_id = n.tenant_id AND h.task_id = n.id AND h.ordinal = 0 LIMIT 1
    ) AS created
    WHERE n.created_at <> o.created_at
    ON CONFLICT (tenant_id, task_id, ordinal) DO UPDATE SET valid_from = excluded.valid_from;

    INSERT INTO litigation.task_history AS k (tenant_id, task_id, ordinal, status, valid_from)
    SELECT n.tenant_id, n.id, last.ordinal + CASE WHEN n.status = o.status THEN 0 ELSE 1 END, n.status,
        greatest(n.created_at, CASE
            WHEN n.status = 'completed' AND n.completed_at IS NOT NULL THEN n.completed_at
            -- A completion that nobody dated counts from the creation, or from when we learnt of it.
            WHEN n.status = o.status AND o.completed_at IS NULL
                THEN CASE WHEN last.valid_from > o.created_at THEN last.valid_from END
            ELSE litigation.learnt_at(n.tenant_id) END)
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
    CROSS JOIN LATERAL (
        SELECT h.ordinal, h.valid_from FROM litigation.task_history AS h WHERE h.tenant_id = n.tenant_id AND h.task_id = n.id
        ORDER BY h.ordinal DESC LIMIT 1
    ) AS last
    WHERE n.status <> o.status
        OR (n.status = 'completed' AND (n.created_at, n.completed_at) IS DISTINCT FROM (o.created_at, o.completed_at))
    ON CONFLICT (tenant_id, task_id, ordinal) DO UPDATE SET valid_from = excluded.valid_from;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.forget_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM litigation.task_history AS h USING old_rows AS o WHERE h.tenant_id = o.tenant_id AND h.task_id = o.id;
    DELETE FROM litigation.task_flags AS f USING old_rows AS o WHERE f.tenant_id = o.tenant_id AND f.task_id = o.id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.forget_all_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE litigation.task_history, litigation.task_flags, litigation.task_marks, litigation.task_checks;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER keep_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.keep_new_statuses();
CREATE OR REPLACE TRIGGER keep_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.keep_changed_statuses();
CREATE OR REPLACE TRIGGER forget_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.forget_statuses();
CREATE OR REPLACE TRIGGER forget_all AFTER TRUNCATE ON raw.tasks
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.forget_all_statuses();
