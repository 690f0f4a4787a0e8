-- What is carried out in this transaction. A working table of it, so that the planner knows what it holds.
-- Grain: one row per execution; without a payload the event is gone.
CREATE TEMPORARY TABLE executing (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id uuid NOT NULL,
    event_id uuid NOT NULL,
    rule_name text NOT NULL,
    trigger_event text NOT NULL,
    actions jsonb NOT NULL,
    depth integer NOT NULL,
    attempts integer NOT NULL,
    done text[] NOT NULL,
    entity_type text,
    entity_id uuid,
    occurred_at timestamptz,
    payload jsonb,
    PRIMARY KEY (tenant_id, rule_id, event_id)
) ON COMMIT DROP
