-- Statement triggers that note which tasks the next check of service levels has to look at, besides those that time
-- brings: what came, changed or is gone; all of a tenant when its service levels change.

CREATE OR REPLACE FUNCTION litigation.mark_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id, came)
    SELECT c.tenant_id, c.id, TG_OP = 'INSERT' FROM changed_rows AS c;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_changed_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id)
    SELECT n.tenant_id, n.id
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
    WHERE (o.status, o.priority, o.created_at, o.due_date, o.completed_at)
        IS DISTINCT FROM (n.status, n.priority, n.created_at, n.due_date, n.completed_at);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_policies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id) SELECT DISTINCT c.tenant_id, CAST(NULL AS uuid) FROM changed_rows AS c;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_tasks();
CREATE OR REPLACE TRIGGER mark_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_changed_tasks();
-- A check that has read a task flags it after it is gone.
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_tasks();
CREATE OR REPLACE TRIGGER mark_new AFTER INSERT ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();
CREATE OR REPLACE TRIGGER mark_changed AFTER UPDATE ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.sla_policies
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();
