-- Notes every recorded notification as one whose deliveries are still to be decided; a digest is made with its own.
CREATE OR REPLACE FUNCTION notifications.mark_unplanned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notifications.unplanned (tenant_id, notification_id)
    SELECT tenant_id, id FROM new_rows WHERE kind <> 'digest';
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_unplanned AFTER INSERT ON notifications.notifications
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION notifications.mark_unplanned();
