-- The single actions that are carried out in this transaction, their texts filled with what the event says, and why they
-- failed. Grain: one row per execution and action; n counts the actions of a rule from 1, identity
-- says which it is wherever it stands (single_actions in schema/rules.sql).
CREATE TEMPORARY TABLE acting (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id uuid NOT NULL,
    event_id uuid NOT NULL,
    n smallint NOT NULL,
    identity text NOT NULL,
    action text NOT NULL,
    arguments jsonb NOT NULL,
    user_id uuid,
    role text,
    rule_name text NOT NULL,
    trigger_event text NOT NULL,
    entity_type text NOT NULL,
    entity_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    depth integer NOT NULL,
    key text NOT NULL,
    error text,
    PRIMARY KEY (tenant_id, rule_id, event_id, n)
) ON COMMIT DROP
