CREATE TABLE automation_rules.former_tenants (
    tenant_id TEXT COLLATE "C" NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT former_tenants_pkey PRIMARY KEY (tenant_id)
);
COMMENT ON TABLE automation_rules.former_tenants IS 'Tenants that their desk has no more: their rules answer nothing and are not judged';
COMMENT ON COLUMN automation_rules.former_tenants.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN automation_rules.former_tenants.removed_at IS 'When it was removed';

-- The rules that answer: enabled, and of a tenant that its desk still has.
CREATE OR REPLACE VIEW automation_rules.answering_rules WITH (security_invoker = true) AS
SELECT r.tenant_id, r.id, r.name, r.trigger_event, r.condition, r.actions, r.active_since
FROM raw.automation_rules AS r
WHERE r.enabled IS NOT FALSE
    AND NOT EXISTS (SELECT FROM automation_rules.former_tenants AS f WHERE f.tenant_id = r.tenant_id OFFSET '0');

-- A desk says here which of its tenants are removed: the house keeps them, and so does a source that names them no more
-- their rules. Nothing of these is carried out or told from then on, and what is open about them is over.
CREATE OR REPLACE FUNCTION automation_rules.forget_tenants(gone text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO automation_rules.former_tenants (tenant_id) SELECT g.id FROM unnest(gone) AS g (id) ON CONFLICT DO NOTHING;
    UPDATE automation_rules.health_alerts AS a SET cleared_at = greatest(a.raised_at, clock_timestamp())
    WHERE a.tenant_id = ANY (gone) AND a.cleared_at IS NULL;
$$;

-- A desk says here which tenants it has again. Their rules are as if enabled now.
CREATE OR REPLACE FUNCTION automation_rules.welcome_tenants(back text[]) RETURNS void LANGUAGE sql AS $$
    WITH returned AS (
        DELETE FROM automation_rules.former_tenants AS f WHERE f.tenant_id = ANY (back) RETURNING f.tenant_id
    )
    UPDATE raw.automation_rules AS r SET active_since = clock_timestamp()
    WHERE r.tenant_id = ANY (ARRAY(SELECT w.tenant_id FROM returned AS w));
$$;

-- The single actions of a rule, counted from 1. What is known of an action is known of what it says, not of its place:
-- a rule may be mended between two attempts. Of equal actions the first is the same one however many there are.
CREATE OR REPLACE FUNCTION automation_rules.single_actions(actions jsonb)
RETURNS TABLE (n bigint, action jsonb, identity text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT a.n, a.action, concat(md5(CAST(a.action AS text)), '-', row_number() OVER (PARTITION BY a.action ORDER BY a.n))
FROM jsonb_array_elements(actions) WITH ORDINALITY AS a (action, n)
$$;

-- Notes the events that some rule listens to. Rule chains: an event that is recorded while actions are carried out is one
-- deeper than the event that they answer, which the transaction says; one that comes of something made earlier is as
-- deep as its payload says under automation_depth.
CREATE OR REPLACE FUNCTION automation_rules.mark_unmatched() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    depth integer := coalesce(nullif(current_setting('automation_rules.depth', true), ''), '0');
BEGIN
    IF NOT EXISTS (SELECT FROM raw.automation_rules) THEN
        RETURN NULL;
    END IF;
    INSERT INTO automation_rules.unmatched (tenant_id, event_id, depth)
    SELECT n.tenant_id, n.id, greatest(depth, CASE WHEN jsonb_typeof(n.payload -> 'automation_depth') = 'number'
        THEN CAST(least(greatest(CAST(n.payload -> 'automation_depth' AS numeric), 0), 1000) AS integer) END)
    FROM new_rows AS n
    WHERE EXISTS (
        SELECT FROM automation_rules.answering_rules AS r
        WHERE r.tenant_id = n.tenant_id AND r.trigger_event = n.type
    );
    RETURN NULL;
END $$;

-- A webhook is carried out when it is recorded; that the outbox gave it up is known later, and logged as a failure of the
-- rule then. Grain: one row per delivery that dies. Uses notifications_pkey. What else somebody wrote under the kind of a
-- rule must not stop whoever delivers it.
CREATE OR REPLACE FUNCTION automation_rules.log_dead_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO automation_rules.automation_logs (
        tenant_id, rule_id, rule_name, trigger_event, event_id, status, actions_executed, error_message, executed_at
    )
    SELECT n.tenant_id, CAST(n.metadata ->> 'rule_id' AS uuid), n.metadata ->> 'rule', n.metadata ->> 'event', n.event_id,
        'failed',
        jsonb_build_array(jsonb_build_object('n', e.n, 'action', 'webhook', 'status', 'failed', 'error', e.said)),
        concat('action ', e.n, ' (webhook): ', e.said), clock_timestamp()
    FROM notifications.notifications AS n
    CROSS JOIN LATERAL (
        -- Once a key ended in the place of the action.
        SELECT CAST(CASE WHEN k.ending ~ '^[0-9]{1,5}$' THEN k.ending
                WHEN n.metadata ->> 'action' ~ '^[0-9]{1,5}$' THEN n.metadata ->> 'action' END AS integer) AS n,
            concat('given up by the outbox, attempts: ', NEW.attempts, ': ', NEW.last_error) AS said
        FROM (SELECT split_part(n.dedupe_key, ':', 4) AS ending) AS k
    ) AS e
    WHERE n.tenant_id = NEW.tenant_id AND n.id = NEW.notification_id AND n.kind = 'automation_rule'
        AND n.channels = ARRAY['webhook'] AND n.event_id IS NOT NULL AND n.metadata ?& ARRAY['rule', 'event']
        AND pg_input_is_valid(n.metadata ->> 'rule_id', 'uuid')
        AND n.dedupe_key ~ '^automation_rule:[^:]*:[^:]*:([0-9]{1,5}|[0-9a-f]{32}-[0-9]{1,5})$';
    RETURN NULL;
END $$;

-- A tenant of the source is a tenant of the house from then on, and lives in its own time zone.
CREATE OR REPLACE FUNCTION litigation.register_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.tenants AS t (tenant_id, timezone)
    SELECT n.tenant_id, n.timezone FROM new_rows AS n
    ON CONFLICT (tenant_id) DO UPDATE SET timezone = excluded.timezone WHERE t.timezone <> excluded.timezone;
    PERFORM automation_rules.welcome_tenants(ARRAY(SELECT n.tenant_id FROM new_rows AS n));
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER register_new AFTER INSERT ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();
CREATE OR REPLACE TRIGGER register_changed AFTER UPDATE ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();

-- One that the source removes stays a tenant of the house, and its rules stay, until the source has it again: they rest, but
-- not those of a tenant that has loads of its own, and so another desk: loads of this one are of all its tenants.
CREATE OR REPLACE FUNCTION litigation.unregister_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM automation_rules.forget_tenants(ARRAY(
        SELECT o.tenant_id FROM old_rows AS o
        WHERE NOT EXISTS (SELECT FROM raw.tenants AS t WHERE t.tenant_id = o.tenant_id OFFSET '0')
            AND NOT EXISTS (SELECT FROM ingestion.loads AS l WHERE l.tenant_id = o.tenant_id OFFSET '0')
    ));
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER unregister_removed AFTER DELETE ON raw.tenants
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.unregister_tenants();

-- Those that were removed before: they have records of the desk, and are none of its tenants.
SELECT automation_rules.forget_tenants(ARRAY(
    SELECT t.tenant_id FROM platform.tenants AS t
    WHERE NOT EXISTS (SELECT FROM raw.tenants AS r WHERE r.tenant_id = t.tenant_id OFFSET '0')
    AND NOT EXISTS (SELECT FROM ingestion.loads AS l WHERE l.tenant_id = t.tenant_id OFFSET '0') AND (
        EXISTS (SELECT FROM raw.cases AS c WHERE c.tenant_id = t.tenant_id OFFSET '0')
        OR EXISTS (SELECT FROM litigation.daily_metrics AS m WHERE m.tenant_id = t.tenant_id OFFSET '0')
    )
));

-- What is done was known by its place. Until now the place told what is left to do of a rule as it is, so that the actions
-- that stand there now are the ones that are not to be done again; what has succeeded altogether is never done again. Of a
-- rule that is gone nobody knows what stood where: should it come back, what is replayed of it is done whole.
ALTER TABLE automation_rules.executions RENAME COLUMN done TO done_places;
-- Its constraint has the name that the new column needs.
ALTER TABLE automation_rules.executions ALTER COLUMN done_places DROP NOT NULL;
ALTER TABLE automation_rules.executions ADD COLUMN done TEXT[] DEFAULT '{}' NOT NULL;
COMMENT ON COLUMN automation_rules.executions.done IS 'The actions that succeeded and are not done again: the MD5 hash of each, and which of equal ones';
UPDATE automation_rules.executions AS x SET done = ARRAY(
    SELECT a.identity
    FROM raw.automation_rules AS r
    CROSS JOIN LATERAL automation_rules.single_actions(r.actions) AS a
    WHERE r.tenant_id = x.tenant_id AND r.id = x.rule_id AND a.n = ANY (x.done_places)
    ORDER BY a.n
)
WHERE x.status <> 'success' AND x.done_places <> '{}';
ALTER TABLE automation_rules.executions DROP COLUMN done_places;

COMMENT ON COLUMN platform.audit_log.details IS 'Of a job: job_name, status, results, execution_time_ms, started_at, error';

-- What each run of a job of this desk did, once it has ended, in the form of the original.
CREATE OR REPLACE VIEW litigation.job_results WITH (security_invoker = true) AS
SELECT a.tenant_id, a.run_id, a.recorded_at, a.details ->> 'job_name' AS job_name,
    CASE WHEN a.details ->> 'status' = 'SUCCESS' THEN jsonb_build_object(
        'success', true, 'job', j.job, 'executedAt', s.started_at, 'results', a.details -> 'results',
        'executionTime', concat(round(CAST(a.details ->> 'execution_time_ms' AS numeric) / 1000, 1), 's'))
    ELSE jsonb_build_object(
        'success', false, 'job', j.job, 'error', split_part(e.error, '. ', 1), 'errorDetails', e.error,
        'executedAt', s.started_at) END AS document
FROM platform.audit_log AS a
JOIN (VALUES
    ('check_sla_and_overdue_job', 'check-sla-and-overdue'),
    ('send_hearing_reminders_job', 'send-hearing-reminders'),
    ('analytics_snapshot_job', 'analytics-snapshot'),
    ('check_upcoming_deadlines_job', 'check-upcoming-deadlines'),
    ('automation_health_check_job', 'automation-health-check')
) AS j (name, job) ON j.name = a.details ->> 'job_name'
CROSS JOIN LATERAL (
    SELECT coalesce(a.details ->> 'error', concat('The run ended as ', a.details ->> 'status', '.')) AS error
) AS e
CROSS JOIN LATERAL (
    -- Rows from before the start was written down have the duration.
    SELECT coalesce(CAST(a.details ->> 'started_at' AS timestamptz), a.recorded_at
        - coalesce(CAST(a.details ->> 'execution_time_ms' AS numeric), 0) * interval '1 millisecond') AS started_at
) AS s
WHERE a.action_type = 'background_job_execution' AND a.details ->> 'status' <> 'running';

-- On every table with a tenant, those of later migrations too: each runs this again.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid AS id, CAST(c.oid AS regclass) AS name
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN (
            'platform', 'ingestion', 'raw', 'dossiers', 'notifications', 'litigation', 'automation_rules'
        ) AND c.relname !~ '^(stage|checked)_'
    LOOP
        EXECUTE concat('ALTER TABLE ', found.name, ' ENABLE ROW LEVEL SECURITY');
        IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = found.id AND p.polname = 'own_tenants') THEN
            EXECUTE concat('CREATE POLICY own_tenants ON ', found.name,
                ' FOR SELECT USING (tenant_id IN (SELECT platform.visible_tenants()))');
        END IF;
    END LOOP;
END $$;
