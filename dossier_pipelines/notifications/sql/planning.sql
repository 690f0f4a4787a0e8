-- The notifications that are being planned, each with its channels, and the day of its person and that day's zone. A
-- working table of the transaction, so that the planner knows what it holds. Grain: one row per notification.
CREATE TEMPORARY TABLE planning (
    tenant_id text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    address text,
    urgency smallint NOT NULL,
    dedupe_key text NOT NULL,
    created_at timestamptz NOT NULL,
    zone text NOT NULL,
    channels text[] NOT NULL,
    sends boolean NOT NULL,
    has_mail boolean NOT NULL,
    has_whatsapp boolean NOT NULL,
    day date NOT NULL
) ON COMMIT DROP
