-- What the statement of a kind of action answers: one row for each action that it was handed, with the reason when it
-- failed. Grain: one row per action.
CREATE TEMPORARY TABLE actions_handled (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id uuid NOT NULL,
    event_id uuid NOT NULL,
    n smallint NOT NULL,
    error text,
    PRIMARY KEY (tenant_id, rule_id, event_id, n)
) ON COMMIT DROP
