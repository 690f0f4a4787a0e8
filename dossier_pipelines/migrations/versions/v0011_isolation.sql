COMMENT ON COLUMN ingestion.rejected_rows.tenant_id IS 'Whose row this is; * for one that names no known tenant, which only who sees all tenants reads';

COMMENT ON COLUMN ingestion.loads.tenant_id IS 'Whose row this is; * for the load of a source of many tenants';

-- What is of many tenants, or named none that is known, was stored as the configured one. The next load says of each
-- rejected row whose it is.
UPDATE ingestion.loads SET tenant_id = '*'
WHERE tenant_id <> '*' AND entity IN (
    'tenants', 'litigation users', 'courts', 'cases', 'tasks', 'hearings', 'litigation documents', 'sla_policies',
    'automation_rules'
);
UPDATE ingestion.rejected_rows SET tenant_id = '*'
WHERE tenant_id <> '*' AND entity IN (
    'tenants', 'litigation users', 'courts', 'cases', 'tasks', 'hearings', 'litigation documents', 'sla_policies',
    'automation_rules'
);

-- Of several policies of a tenant and priority any may have counted. One that can be meant stays; the next load sets the
-- others aside.
DELETE FROM raw.sla_policies AS p USING raw.sla_policies AS o
WHERE o.tenant_id = p.tenant_id AND o.priority = p.priority AND (o.hours > 87600, o.id) < (p.hours > 87600, p.id);

-- So many hours that no moment is so late stopped the check of all tenants. What is cut is judged anew by the next load,
-- which finds another hash and sets it aside with its reason.
UPDATE raw.sla_policies SET hours = 87600, source_hash = source_hash # 1 WHERE hours > 87600;
ALTER TABLE raw.sla_policies DROP CONSTRAINT sla_policies_hours_check;
ALTER TABLE raw.sla_policies ADD CONSTRAINT sla_policies_hours_check CHECK (hours > 0 AND hours <= 87600);
ALTER TABLE raw.sla_policies ADD CONSTRAINT sla_policies_tenant_id_priority_key
    UNIQUE (tenant_id, priority) DEFERRABLE INITIALLY DEFERRED;

COMMENT ON TABLE automation_rules.automation_logs IS 'Every attempt to answer an event and how it ended, and every webhook of a rule that was given up later';

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
        jsonb_build_array(jsonb_build_object('n', CAST(split_part(n.dedupe_key, ':', 4) AS integer), 'action', 'webhook',
            'status', 'failed', 'error', e.said)),
        concat('action ', split_part(n.dedupe_key, ':', 4), ' (webhook): ', e.said), clock_timestamp()
    FROM notifications.notifications AS n
    CROSS JOIN LATERAL (
        SELECT concat('given up by the outbox, attempts: ', NEW.attempts, ': ', NEW.last_error) AS said
    ) AS e
    WHERE n.tenant_id = NEW.tenant_id AND n.id = NEW.notification_id AND n.kind = 'automation_rule'
        AND n.channels = ARRAY['webhook'] AND n.event_id IS NOT NULL AND n.metadata ?& ARRAY['rule', 'event']
        AND pg_input_is_valid(n.metadata ->> 'rule_id', 'uuid')
        AND n.dedupe_key ~ '^automation_rule:[^:]*:[^:]*:[0-9]{1,5}$';
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER log_dead_webhook AFTER UPDATE ON notifications.deliveries FOR EACH ROW
    WHEN (NEW.status = 'dead' AND OLD.status <> 'dead' AND NEW.channel = 'webhook')
    EXECUTE FUNCTION automation_rules.log_dead_webhook();
