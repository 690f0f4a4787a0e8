ALTER TABLE litigation.metric_marks ADD COLUMN taken BOOLEAN DEFAULT false NOT NULL;
COMMENT ON COLUMN litigation.metric_marks.taken IS 'A restating has begun with it';
COMMENT ON TABLE litigation.metric_marks IS
    'Tenants whose daily metrics a change of their records has overtaken; taken away by a restating';
-- The default until now. Where it was another one, the next evening finds so, and has the days taken anew.
ALTER TABLE litigation.metric_reach ADD COLUMN grace INTERVAL DEFAULT '15 minutes' NOT NULL;
ALTER TABLE litigation.metric_reach ALTER COLUMN grace DROP DEFAULT;
COMMENT ON COLUMN litigation.metric_reach.grace IS 'By how much a due date must have passed for a task to be overdue on its days';
