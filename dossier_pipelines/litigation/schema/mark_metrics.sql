-- Statement triggers that note whose daily metrics a change of records has overtaken, and from which moment on. A change
-- after the newest day leaves no mark, and before any day was taken nothing is looked at.

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of(tenants text[], moments timestamptz[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT r.tenant_id, c.since
    FROM (
        SELECT u.tenant_id, min(u.since) AS since FROM unnest(tenants, moments) AS u (tenant_id, since) GROUP BY u.tenant_id
    ) AS c
    JOIN litigation.metric_reach AS r ON r.tenant_id = c.tenant_id
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE c.since <= platform.day_end(r.newest_day, t.timezone);
$$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.created_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(
                CASE WHEN n.created_at <> o.created_at OR n.priority <> o.priority THEN least(n.created_at, o.created_at) END,
                CASE WHEN n.due_date IS DISTINCT FROM o.due_date THEN least(n.due_date, o.due_date) END,
                -- Of a completion its own date counts; of anything else, when we learn of it.
                CASE WHEN n.status <> o.status AND n.status <> 'completed' THEN litigation.learnt_at(n.tenant_id) END,
                CASE WHEN (n.status, n.completed_at) IS DISTINCT FROM (o.status, o.completed_at)
                    THEN least(n.completed_at, o.completed_at) END
            )) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            GROUP BY n.tenant_id
        ) AS c
        WHERE c.since IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_cases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.created_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_cases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(
                CASE WHEN n.created_at <> o.created_at THEN least(n.created_at, o.created_at) END,
                CASE WHEN n.closed_at IS DISTINCT FROM o.closed_at THEN least(n.closed_at, o.closed_at) END
            )) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            GROUP BY n.tenant_id
        ) AS c
        WHERE c.since IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_hearings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT r.tenant_id, min(r.hearing_date) AS since FROM changed_rows AS r
            WHERE r.status = 'completed' GROUP BY r.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_hearings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(n.hearing_date, o.hearing_date)) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE 'completed' IN (n.status, o.status)
                AND (n.status, n.hearing_date, n.attended) IS DISTINCT FROM (o.status, o.hearing_date, o.attended)
            GROUP BY n.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_documents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.uploaded_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_documents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(n.uploaded_at, o.uploaded_at)) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE n.uploaded_at <> o.uploaded_at
            GROUP BY n.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

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

-- Days begin elsewhere for a tenant in another time zone.
CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_moved_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT n.tenant_id, NULL
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.timezone <> o.timezone
    JOIN litigation.metric_reach AS r ON r.tenant_id = n.tenant_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_tasks();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_tasks();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_tasks();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.cases
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_cases();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.cases
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_cases();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.cases
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_cases();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.hearings
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_hearings();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.hearings
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_hearings();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.hearings
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_hearings();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.case_documents
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_documents();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.case_documents
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_documents();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.case_documents
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_documents();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_policies();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.sla_policies
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_policies();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.sla_policies
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_policies();

CREATE OR REPLACE TRIGGER metrics_moved AFTER UPDATE ON raw.tenants
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_moved_tenants();
