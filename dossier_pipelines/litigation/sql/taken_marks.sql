-- The marks that a check has taken. A working table of its transaction. Grain: one row per mark.
CREATE TEMPORARY TABLE taken_marks (
    tenant_id text COLLATE "C" NOT NULL,
    task_id uuid,
    came boolean NOT NULL
) ON COMMIT DROP
