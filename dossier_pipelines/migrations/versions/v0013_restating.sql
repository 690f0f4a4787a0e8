ALTER TABLE litigation.metric_marks ADD COLUMN taken BOOLEAN DEFAULT false NOT NULL;
COMMENT ON COLUMN litigation.metric_marks.taken IS 'A restating has begun with it';
ALTER TABLE litigation.metric_reach ADD COLUMN grace INTERVAL;
COMMENT ON COLUMN litigation.metric_reach.grace IS 'By how much a due date must have passed then for a task to be overdue; null: not noted yet';
