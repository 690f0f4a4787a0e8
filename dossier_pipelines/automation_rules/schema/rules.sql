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
        SELECT FROM automation_rules.answering_rules AS r
        WHERE r.tenant_id = n.tenant_id AND r.trigger_event = n.type
    );
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_unmatched AFTER INSERT ON platform.events
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION automation_rules.mark_unmatched();

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

CREATE OR REPLACE TRIGGER log_dead_webhook AFTER UPDATE ON notifications.deliveries FOR EACH ROW
    WHEN (NEW.status = 'dead' AND OLD.status <> 'dead' AND NEW.channel = 'webhook')
    EXECUTE FUNCTION automation_rules.log_dead_webhook();

-- Who has a role is asked whenever a rule tells its people.
CREATE INDEX IF NOT EXISTS users_role_idx ON raw.users (tenant_id, role);
