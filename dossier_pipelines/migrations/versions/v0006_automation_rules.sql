CREATE SCHEMA automation_rules;

CREATE TABLE platform.daily_jobs (
    tenant_id TEXT COLLATE "C" NOT NULL,
    job TEXT NOT NULL,
    day DATE NOT NULL,
    run_id TEXT NOT NULL,
    done_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT daily_jobs_pkey PRIMARY KEY (tenant_id, job, day)
);
COMMENT ON TABLE platform.daily_jobs IS 'Which daily job is done for which day of each tenant';
COMMENT ON COLUMN platform.daily_jobs.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN platform.daily_jobs.job IS 'Which job';
COMMENT ON COLUMN platform.daily_jobs.day IS 'The tenant''s own day';
COMMENT ON COLUMN platform.daily_jobs.run_id IS 'The Dagster run';
COMMENT ON COLUMN platform.daily_jobs.done_at IS 'When it was done';

CREATE TABLE raw.automation_rules (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    trigger_event TEXT NOT NULL,
    condition TEXT,
    actions JSONB NOT NULL,
    enabled BOOLEAN,
    active_since TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT automation_rules_pkey PRIMARY KEY (tenant_id, id)
);
CREATE INDEX automation_rules_event_idx ON raw.automation_rules (tenant_id, trigger_event) WHERE enabled IS NOT FALSE;
COMMENT ON TABLE raw.automation_rules IS 'When an event happens and a condition on its payload holds, actions are done';
COMMENT ON COLUMN raw.automation_rules.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.automation_rules.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.automation_rules.name IS 'What people call it';
COMMENT ON COLUMN raw.automation_rules.trigger_event IS 'The type of the events that it answers';
COMMENT ON COLUMN raw.automation_rules.condition IS 'SQL/JSON path over the payload: holds when it gives anything besides false and null; null: always';
COMMENT ON COLUMN raw.automation_rules.actions IS 'What is done: notify, webhook, create_task, set_field';
COMMENT ON COLUMN raw.automation_rules.enabled IS 'false: it answers nothing; null counts as true';
COMMENT ON COLUMN raw.automation_rules.active_since IS 'It answers what is recorded from here on; anew when it is enabled or gets another event or condition';
COMMENT ON COLUMN raw.automation_rules.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.automation_rules.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.automation_rules.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE automation_rules.unmatched (
    tenant_id TEXT COLLATE "C" NOT NULL,
    event_id UUID NOT NULL,
    depth INTEGER NOT NULL
);
COMMENT ON TABLE automation_rules.unmatched IS 'Events that no rule has looked at yet; taken by whoever matches them';
COMMENT ON COLUMN automation_rules.unmatched.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN automation_rules.unmatched.event_id IS 'An event that some rule listens to';
COMMENT ON COLUMN automation_rules.unmatched.depth IS 'How many rules, one causing the next, led to it';

CREATE TABLE automation_rules.executions (
    tenant_id TEXT COLLATE "C" NOT NULL,
    rule_id UUID NOT NULL,
    event_id UUID NOT NULL,
    depth INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    done SMALLINT[] DEFAULT '{}' NOT NULL,
    last_error TEXT,
    matched_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    executed_at TIMESTAMP WITH TIME ZONE,
    run_id TEXT,
    CONSTRAINT executions_pkey PRIMARY KEY (tenant_id, rule_id, event_id),
    CONSTRAINT executions_status_check CHECK (status IN ('pending', 'success', 'failed', 'dead'))
);
CREATE INDEX executions_due_idx ON automation_rules.executions (tenant_id, rule_id, next_attempt_at) WHERE status IN ('pending', 'failed');
CREATE INDEX executions_next_idx ON automation_rules.executions (next_attempt_at) WHERE status IN ('pending', 'failed');
COMMENT ON TABLE automation_rules.executions IS 'One row per event and rule that answers it: done once, whatever is run again';
COMMENT ON COLUMN automation_rules.executions.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN automation_rules.executions.rule_id IS 'The rule that answers';
COMMENT ON COLUMN automation_rules.executions.event_id IS 'The event that it answers';
COMMENT ON COLUMN automation_rules.executions.depth IS 'How many rules, one causing the next, led to the event';
COMMENT ON COLUMN automation_rules.executions.status IS 'pending, success, failed (tried again) or dead (given up)';
COMMENT ON COLUMN automation_rules.executions.attempts IS 'How often it was tried';
COMMENT ON COLUMN automation_rules.executions.next_attempt_at IS 'From when on it is due';
COMMENT ON COLUMN automation_rules.executions.done IS 'The actions, counted from 1, that succeeded and are not done again';
COMMENT ON COLUMN automation_rules.executions.last_error IS 'Why the last attempt failed, or why it was given up';
COMMENT ON COLUMN automation_rules.executions.matched_at IS 'When it was decided';
COMMENT ON COLUMN automation_rules.executions.executed_at IS 'As of which moment it was last tried';
COMMENT ON COLUMN automation_rules.executions.run_id IS 'The Dagster run of the last attempt';

CREATE TABLE automation_rules.automation_logs (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    rule_id UUID NOT NULL,
    rule_name TEXT NOT NULL,
    trigger_event TEXT NOT NULL,
    event_id UUID NOT NULL,
    status TEXT NOT NULL,
    actions_executed JSONB NOT NULL,
    error_message TEXT,
    executed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    run_id TEXT,
    CONSTRAINT automation_logs_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT automation_logs_status_check CHECK (status IN ('success', 'failed'))
);
CREATE INDEX automation_logs_rule_idx ON automation_rules.automation_logs (tenant_id, rule_id, executed_at) INCLUDE (status);
CREATE INDEX automation_logs_tenant_idx ON automation_rules.automation_logs (tenant_id, executed_at) INCLUDE (status);
COMMENT ON TABLE automation_rules.automation_logs IS 'Every attempt to answer an event, and how it ended';
COMMENT ON COLUMN automation_rules.automation_logs.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN automation_rules.automation_logs.id IS 'Names it everywhere';
COMMENT ON COLUMN automation_rules.automation_logs.rule_id IS 'The rule';
COMMENT ON COLUMN automation_rules.automation_logs.rule_name IS 'What it was called then';
COMMENT ON COLUMN automation_rules.automation_logs.trigger_event IS 'The type of the event';
COMMENT ON COLUMN automation_rules.automation_logs.event_id IS 'The event';
COMMENT ON COLUMN automation_rules.automation_logs.status IS 'success, or failed: at least one action failed';
COMMENT ON COLUMN automation_rules.automation_logs.actions_executed IS '[{n, action, status, error}] of this attempt';
COMMENT ON COLUMN automation_rules.automation_logs.error_message IS 'What failed, in words';
COMMENT ON COLUMN automation_rules.automation_logs.executed_at IS 'As of which moment it was tried';
COMMENT ON COLUMN automation_rules.automation_logs.run_id IS 'The Dagster run';

CREATE TABLE automation_rules.health_alerts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    level TEXT NOT NULL,
    condition TEXT NOT NULL,
    rule_id UUID,
    said TEXT NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE NOT NULL,
    cleared_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT health_alerts_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT health_alerts_level_check CHECK (level IN ('CRITICAL', 'WARNING', 'INFO')),
    CONSTRAINT health_alerts_condition_check CHECK (condition IN ('degraded', 'inactive', 'overall'))
);
CREATE UNIQUE INDEX health_alerts_open_idx ON automation_rules.health_alerts (tenant_id, condition, rule_id) NULLS NOT DISTINCT WHERE cleared_at IS NULL;
COMMENT ON TABLE automation_rules.health_alerts IS 'Troubles of rules: each is told to the administrators once, until it is over';
COMMENT ON COLUMN automation_rules.health_alerts.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN automation_rules.health_alerts.id IS 'Names it everywhere';
COMMENT ON COLUMN automation_rules.health_alerts.level IS 'CRITICAL, WARNING or INFO';
COMMENT ON COLUMN automation_rules.health_alerts.condition IS 'degraded, inactive or overall';
COMMENT ON COLUMN automation_rules.health_alerts.rule_id IS 'The rule; null for overall';
COMMENT ON COLUMN automation_rules.health_alerts.said IS 'In words';
COMMENT ON COLUMN automation_rules.health_alerts.raised_at IS 'As of which moment it was noticed';
COMMENT ON COLUMN automation_rules.health_alerts.cleared_at IS 'As of which moment it was over; null while it lasts';


-- What a rule may say, how its condition is judged and its texts are filled, and the marks of events that rules listen to.

-- Why a condition is refused, in words; null when it is none. A variable has no value here, and evaluating it would be an
-- error. In the normal form of a path a variable is $"name"; texts are emptied first, since one may end in $.
CREATE OR REPLACE FUNCTION automation_rules.condition_problem(condition text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    said text := (SELECT concat_ws(', ', i.message, i.detail) FROM pg_input_error_info(condition, 'jsonpath') AS i);
BEGIN
    IF said <> '' THEN
        RETURN concat('condition ', quote_literal(left(condition, 80)), ' is no SQL/JSON path: ', said);
    END IF;
    IF position('$""' IN regexp_replace(CAST(CAST(condition AS jsonpath) AS text), '"(\\.|[^"\\])*"', '""', 'g')) > 0 THEN
        RETURN concat('condition ', quote_literal(left(condition, 80)), ' names a variable; write $.key for what the event says');
    END IF;
    RETURN NULL;
END $$;

-- Why one action is refused, in words; null when it is not.
CREATE OR REPLACE FUNCTION automation_rules.action_problem(action jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH known (action, field, kind, required) AS (
        VALUES ('notify', 'user_id', 'text', false), ('notify', 'role', 'text', false), ('notify', 'title', 'text', true),
            ('notify', 'message', 'text', true), ('notify', 'urgency', 'a number from 1 to 4', false),
            ('webhook', 'title', 'text', false), ('webhook', 'message', 'text', false),
            ('create_task', 'title', 'text', true),
            ('create_task', 'priority', 'low, medium, high or critical', true),
            ('create_task', 'assigned_to', 'text', false),
            ('create_task', 'due_in_hours', 'a number from 0 to 87600', true),
            ('set_field', 'field', 'the name of a field', true),
            ('set_field', 'value', 'a text, a number, true, false or null', true)
    )
    SELECT CASE
        WHEN jsonb_typeof(action) <> 'object' THEN 'is no object'
        WHEN NOT EXISTS (SELECT FROM known AS k WHERE k.action = action_problem.action ->> 'action') THEN
            concat('does ', coalesce(quote_literal(left(action_problem.action ->> 'action', 80)), 'nothing'),
                ': it must be notify, webhook, create_task or set_field')
        ELSE (
            SELECT string_agg(p.said, ', ' ORDER BY p.said)
            FROM (
                SELECT concat('lacks ', k.field) AS said FROM known AS k
                WHERE k.action = action_problem.action ->> 'action' AND k.required
                    AND NOT action_problem.action ? k.field
                UNION ALL
                SELECT concat('has a field ', quote_literal(left(e.key, 80)), ' that it does not know')
                FROM jsonb_object_keys(action_problem.action) AS e (key)
                WHERE e.key <> 'action' AND NOT EXISTS (
                    SELECT FROM known AS k WHERE k.action = action_problem.action ->> 'action' AND k.field = e.key
                )
                UNION ALL
                SELECT concat(k.field, ' must be ', k.kind)
                FROM known AS k
                CROSS JOIN LATERAL (SELECT action_problem.action -> k.field AS value) AS v
                WHERE k.action = action_problem.action ->> 'action' AND NOT CASE k.kind
                    WHEN 'text' THEN jsonb_typeof(v.value) = 'string' AND btrim(v.value #>> '{}') <> ''
                    WHEN 'a number from 1 to 4' THEN v.value IN ('1', '2', '3', '4')
                    WHEN 'low, medium, high or critical' THEN v.value IN ('"low"', '"medium"', '"high"', '"critical"')
                    WHEN 'a number from 0 to 87600' THEN
                        CASE WHEN jsonb_typeof(v.value) = 'number' THEN CAST(v.value AS numeric) BETWEEN 0 AND 87600
                            ELSE v.value IS NULL END
                    WHEN 'the name of a field' THEN
                        jsonb_typeof(v.value) = 'string' AND v.value #>> '{}' ~ '^[a-z][a-z0-9_]*$'
                    ELSE jsonb_typeof(v.value) NOT IN ('object', 'array') END
                UNION ALL
                SELECT 'must name either user_id or role'
                WHERE action_problem.action ->> 'action' = 'notify'
                    AND (action_problem.action ? 'user_id') = (action_problem.action ? 'role')
            ) AS p
        ) END
$$;

-- Why the actions of a rule are refused, in words; null when they are not.
CREATE OR REPLACE FUNCTION automation_rules.actions_problem(actions jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE
    WHEN jsonb_typeof(actions) <> 'array' THEN 'actions is no list'
    WHEN actions = '[]' THEN 'actions is empty'
    WHEN jsonb_array_length(actions) > 20 THEN 'actions has more than 20 entries'
    ELSE (
        SELECT string_agg(concat('action ', a.n, ' ', p.said), '; ' ORDER BY a.n)
        FROM jsonb_array_elements(actions) WITH ORDINALITY AS a (action, n)
        CROSS JOIN LATERAL (SELECT automation_rules.action_problem(a.action) AS said) AS p
        WHERE p.said IS NOT NULL
    ) END
$$;

-- Refuses a rule in words, whoever writes it.
CREATE OR REPLACE FUNCTION automation_rules.require_rule(condition text, actions jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    said text := concat_ws(
        '; ', automation_rules.condition_problem(condition), automation_rules.actions_problem(actions)
    );
BEGIN
    IF said <> '' THEN
        RAISE check_violation USING MESSAGE = concat('This rule is refused: ', said);
    END IF;
    RETURN true;
END $$;

ALTER TABLE raw.automation_rules DROP CONSTRAINT IF EXISTS automation_rules_rule_check;
ALTER TABLE raw.automation_rules
    ADD CONSTRAINT automation_rules_rule_check CHECK (automation_rules.require_rule(condition, actions));

-- Whether a condition holds for a payload, and what went wrong when that cannot be told. Few mistakes are left to be met
-- here, but the text of one may lie in a datetime template: it must not stop the rules of everybody else.
CREATE OR REPLACE FUNCTION automation_rules.judge(condition text, payload jsonb, OUT holds boolean, OUT problem text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF condition IS NULL THEN
        holds := true;
        RETURN;
    END IF;
    BEGIN
        holds := EXISTS (
            SELECT FROM jsonb_path_query_tz(payload, CAST(condition AS jsonpath), '{}', true) AS i (item)
            WHERE i.item NOT IN ('false', 'null')
        );
    EXCEPTION WHEN OTHERS THEN
        holds := false;
        problem := concat('the condition cannot be judged: ', SQLERRM);
    END;
END $$;

-- Puts what an event says into a text: {key} becomes the value of the key of the payload, in one pass, so that a value
-- that looks like a placeholder stays as it is. A key that the payload lacks stays as it is written; null is nothing.
CREATE OR REPLACE FUNCTION automation_rules.fill(template text, payload jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF position('{' IN template) = 0 OR jsonb_typeof(payload) <> 'object' THEN
        RETURN template;
    END IF;
    RETURN (
        SELECT string_agg(
            CASE WHEN t.part[2] IS NOT NULL AND payload ? t.part[2] THEN coalesce(payload ->> t.part[2], '')
                ELSE t.part[1] END,
            '' ORDER BY t.n
        )
        FROM regexp_matches(template, '(\{([A-Za-z_][A-Za-z0-9_]*)\}|\{|[^{]+)', 'g') WITH ORDINALITY AS t (part, n)
    );
END $$;

-- The action as it is carried out: its texts filled, its names as they are.
CREATE OR REPLACE FUNCTION automation_rules.filled(action jsonb, payload jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    place text;
BEGIN
    FOREACH place IN ARRAY ARRAY['title', 'message', 'user_id', 'assigned_to', 'value'] LOOP
        IF jsonb_typeof(action -> place) = 'string' AND position('{' IN action ->> place) > 0 THEN
            action := jsonb_set(action, ARRAY[place], to_jsonb(automation_rules.fill(action ->> place, payload)));
        END IF;
    END LOOP;
    RETURN action;
END $$;

-- The user that a text names: by the id that we know, or by the own id of the source.
CREATE OR REPLACE FUNCTION automation_rules.person(named text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT CASE
    WHEN pg_input_is_valid(named, 'uuid') THEN CAST(named AS uuid)
    WHEN named IS NOT NULL THEN ingestion.stable_uuid('users', named) END
$$;

-- A rule that is enabled again, or gets another event or condition, does not answer what was recorded before.
CREATE OR REPLACE FUNCTION automation_rules.begin_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.active_since := clock_timestamp();
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER begin_anew BEFORE UPDATE ON raw.automation_rules FOR EACH ROW
    WHEN (OLD.enabled IS FALSE AND NEW.enabled IS NOT FALSE OR OLD.trigger_event <> NEW.trigger_event
        OR OLD.condition IS DISTINCT FROM NEW.condition)
    EXECUTE FUNCTION automation_rules.begin_anew();

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
        SELECT FROM raw.automation_rules AS r
        WHERE r.tenant_id = n.tenant_id AND r.trigger_event = n.type AND r.enabled IS NOT FALSE
    );
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_unmatched AFTER INSERT ON platform.events
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION automation_rules.mark_unmatched();

-- Who has a role is asked whenever a rule tells its people.
CREATE INDEX IF NOT EXISTS users_role_idx ON raw.users (tenant_id, role);
