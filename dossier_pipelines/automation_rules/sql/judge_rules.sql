-- The health of the rules of tenants over the last 24 hours of their log; raise what is wrong, clear what is right again,
-- tell the administrators, each trouble once until it clears. With :dry_run only the figures.
-- degraded: more than 20 of 100 executions of a rule failed (CRITICAL: fewer than 80 succeeded). inactive: enabled and as it
-- is for 48 hours, without an execution in them (WARNING). overall: fewer than 95 of 100 succeeded (INFO). Where nothing ran
-- there is no rate, and an alert neither comes nor goes; the alert of a rule that is gone or disabled goes.
-- Grain: one row per tenant. Uses tenants_pkey, former_tenants_pkey; automation_logs_tenant_idx and
-- automation_logs_rule_idx, index-only, a range per tenant and per rule; health_alerts_open_idx; users_role_idx.
WITH moment AS MATERIALIZED (
    SELECT t.tenant_id, CAST(:as_of AS timestamptz) AS as_of FROM platform.tenants AS t
    WHERE (CAST(:tenants AS text[]) IS NULL OR t.tenant_id = ANY (CAST(:tenants AS text[])))
        AND NOT EXISTS (SELECT FROM automation_rules.former_tenants AS f WHERE f.tenant_id = t.tenant_id OFFSET '0')
),
judged AS MATERIALIZED (
    SELECT m.tenant_id, m.as_of, r.id, r.name, n.total, n.failed, r.enabled IS NOT FALSE AS enabled,
        r.enabled IS NOT FALSE AND r.active_since <= m.as_of - interval '48 hours' AND NOT EXISTS (
            SELECT FROM automation_rules.automation_logs AS l
            WHERE l.tenant_id = r.tenant_id AND l.rule_id = r.id
                AND l.executed_at > m.as_of - interval '48 hours' AND l.executed_at <= m.as_of
        ) AS inactive
    FROM moment AS m
    JOIN raw.automation_rules AS r ON r.tenant_id = m.tenant_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS total, count(*) FILTER (WHERE l.status = 'failed') AS failed
        FROM automation_rules.automation_logs AS l
        WHERE l.tenant_id = r.tenant_id AND l.rule_id = r.id
            AND l.executed_at > m.as_of - interval '24 hours' AND l.executed_at <= m.as_of
    ) AS n
),
condition AS MATERIALIZED (
    SELECT m.tenant_id, m.as_of, 'INFO' AS level, 'overall' AS name, CAST(NULL AS uuid) AS rule_id,
        CAST(NULL AS text) AS rule, n.total, n.failed, n.total > 0 AS known,
        n.failed * 100 > n.total * 5 AS holds,
        format('%s of %s executions of rules failed within 24 hours', n.failed, n.total) AS said
    FROM moment AS m
    CROSS JOIN LATERAL (
        SELECT count(*) AS total, count(*) FILTER (WHERE l.status = 'failed') AS failed
        FROM automation_rules.automation_logs AS l
        WHERE l.tenant_id = m.tenant_id
            AND l.executed_at > m.as_of - interval '24 hours' AND l.executed_at <= m.as_of
    ) AS n
    UNION ALL
    SELECT j.tenant_id, j.as_of, c.level, c.name, j.id, j.name, j.total, j.failed, c.known, c.holds, c.said
    FROM judged AS j
    CROSS JOIN LATERAL (VALUES
        ('CRITICAL', 'degraded', j.total > 0 OR NOT j.enabled, j.enabled AND j.failed * 100 > j.total * 20,
            format('The rule %s failed in %s of %s executions within 24 hours', j.name, j.failed, j.total)),
        ('WARNING', 'inactive', true, j.inactive, format('The rule %s was not executed within 48 hours', j.name))
    ) AS c (level, name, known, holds, said)
),
cleared AS (
    UPDATE automation_rules.health_alerts AS a SET cleared_at = c.as_of
    FROM condition AS c
    WHERE NOT CAST(:dry_run AS boolean) AND a.tenant_id = c.tenant_id AND a.condition = c.name
        AND a.rule_id IS NOT DISTINCT FROM c.rule_id AND a.cleared_at IS NULL AND c.known AND NOT c.holds
    RETURNING a.id
),
orphaned AS (
    UPDATE automation_rules.health_alerts AS a SET cleared_at = m.as_of
    FROM moment AS m
    WHERE NOT CAST(:dry_run AS boolean) AND a.tenant_id = m.tenant_id AND a.rule_id IS NOT NULL AND a.cleared_at IS NULL
        AND NOT EXISTS (SELECT FROM raw.automation_rules AS r WHERE r.tenant_id = a.tenant_id AND r.id = a.rule_id)
    RETURNING a.id
),
raised AS (
    INSERT INTO automation_rules.health_alerts (tenant_id, level, condition, rule_id, said, raised_at)
    SELECT c.tenant_id, c.level, c.name, c.rule_id, c.said, c.as_of FROM condition AS c
    WHERE c.holds AND NOT CAST(:dry_run AS boolean)
    ON CONFLICT (tenant_id, condition, rule_id) WHERE cleared_at IS NULL DO NOTHING
    RETURNING tenant_id, id, level, condition, rule_id, said
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, dedupe_key, run_id, created_at
    )
    SELECT a.tenant_id, u.id, 'automation_health',
        CASE a.level WHEN 'CRITICAL' THEN 1 WHEN 'WARNING' THEN 2 ELSE 3 END, format('%s: %s', a.level, a.said),
        format('%s. The table automation_rules.automation_logs has every attempt and its error.', a.said),
        jsonb_build_object('level', a.level, 'condition', a.condition, 'rule_id', a.rule_id),
        format('automation_health:%s:%s', a.id, u.id), CAST(:run_id AS text), CAST(:now AS timestamptz)
    FROM raised AS a
    CROSS JOIN LATERAL (
        SELECT p.id FROM raw.users AS p WHERE p.tenant_id = a.tenant_id AND p.role = 'admin' OFFSET '0'
    ) AS u
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT c.tenant_id,
    max(c.total) FILTER (WHERE c.name = 'overall') AS total,
    max(c.failed) FILTER (WHERE c.name = 'overall') AS failed,
    coalesce(
        jsonb_agg(jsonb_build_object('rule_id', c.rule_id, 'rule_name', c.rule,
            'failure_rate', round(CAST(c.failed AS numeric) / nullif(c.total, 0), 4)) ORDER BY c.rule_id)
            FILTER (WHERE c.name = 'degraded' AND c.holds), '[]') AS degraded,
    coalesce(jsonb_agg(c.rule_id ORDER BY c.rule_id) FILTER (WHERE c.name = 'inactive' AND c.holds), '[]') AS inactive,
    (SELECT count(*) FROM raised) AS raised,
    (SELECT count(*) FROM cleared) + (SELECT count(*) FROM orphaned) AS cleared,
    (SELECT count(*) FROM told) AS told
FROM condition AS c
GROUP BY c.tenant_id
ORDER BY c.tenant_id
