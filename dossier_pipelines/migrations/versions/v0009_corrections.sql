-- Other hours judge every task anew, those of the first day too.
CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_policies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT r.tenant_id, NULL
    FROM litigation.metric_reach AS r
    WHERE r.tenant_id IN (SELECT c.tenant_id FROM changed_rows AS c);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_policies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT r.tenant_id, NULL
    FROM litigation.metric_reach AS r
    WHERE r.tenant_id IN (
        SELECT n.tenant_id
        FROM old_rows AS o
        JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
        WHERE (n.priority, n.hours) IS DISTINCT FROM (o.priority, o.hours)
    );
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_policies();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.sla_policies
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_policies();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.sla_policies
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_policies();

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

-- What was corrected before left neither a mark nor its date: every tenant is taken anew, once.
UPDATE litigation.task_history AS h SET valid_from = t.created_at
FROM raw.tasks AS t
WHERE t.tenant_id = h.tenant_id AND t.id = h.task_id AND h.ordinal = 0 AND h.valid_from <> t.created_at;

INSERT INTO litigation.metric_marks (tenant_id, since) SELECT r.tenant_id, NULL FROM litigation.metric_reach AS r;
