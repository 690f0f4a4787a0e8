-- To where the job of a day looks ahead.
ALTER TABLE platform.daily_jobs ADD COLUMN reaches_to TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN platform.daily_jobs.reaches_to IS
    'When the next is due, to which it looks ahead; null: not noted yet';

-- Tasks that came, and tasks that are gone, leave marks; since when the tasks of a tenant are checked.
ALTER TABLE litigation.task_marks ADD COLUMN came BOOLEAN DEFAULT false NOT NULL;
COMMENT ON COLUMN litigation.task_marks.came IS 'Whether it came and was not known before';
ALTER TABLE litigation.task_checks ADD COLUMN checked_since TIMESTAMP WITH TIME ZONE;
UPDATE litigation.task_checks SET checked_since = checked_until;
ALTER TABLE litigation.task_checks ALTER COLUMN checked_since SET NOT NULL;
COMMENT ON COLUMN litigation.task_checks.checked_since IS 'As of which moment they were judged first';

CREATE OR REPLACE FUNCTION litigation.mark_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id, came)
    SELECT c.tenant_id, c.id, TG_OP = 'INSERT' FROM changed_rows AS c;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_tasks();

-- The hours of service of a tenant, in one place.
CREATE OR REPLACE FUNCTION litigation.service_hours(tenant text, defaults jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN defaults || coalesce(
    (SELECT jsonb_object_agg(p.priority, p.hours) FROM raw.sla_policies AS p WHERE p.tenant_id = tenant), '{}');
