CREATE TABLE platform.analysts (
    role_name TEXT NOT NULL,
    tenant_id TEXT COLLATE "C" NOT NULL,
    CONSTRAINT analysts_pkey PRIMARY KEY (role_name, tenant_id)
);
COMMENT ON TABLE platform.analysts IS 'Which database role may see which tenant''s rows';
COMMENT ON COLUMN platform.analysts.role_name IS 'The database role that logs in';
COMMENT ON COLUMN platform.analysts.tenant_id IS 'Whose rows it sees; * for everybody''s';

-- Who may see which rows. The pipelines' own role, which owns the tables, sees all; any other role sees those of the
-- tenants that platform.analysts names for it, whatever it may read (`dossier-pipelines db grant` lets it read).
-- It goes by the role that logged in: neither SET ROLE nor any setting changes what is seen.
CREATE OR REPLACE FUNCTION platform.visible_tenants() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT a.tenant_id FROM platform.analysts AS a WHERE a.role_name = session_user AND a.tenant_id <> '*'
    UNION
    SELECT t.tenant_id FROM platform.tenants AS t
    WHERE EXISTS (SELECT FROM platform.analysts AS a WHERE a.role_name = session_user AND a.tenant_id = '*')
    UNION
    SELECT '*' WHERE EXISTS (SELECT FROM platform.analysts AS a WHERE a.role_name = session_user AND a.tenant_id = '*')
$$;

-- On every table with a tenant, those of later migrations too: each runs this again.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid AS id, CAST(c.oid AS regclass) AS name
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN (
            'platform', 'ingestion', 'raw', 'dossiers', 'notifications', 'litigation', 'automation_rules'
        ) AND c.relname !~ '^(stage|checked)_'
    LOOP
        EXECUTE concat('ALTER TABLE ', found.name, ' ENABLE ROW LEVEL SECURITY');
        IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = found.id AND p.polname = 'own_tenants') THEN
            EXECUTE concat('CREATE POLICY own_tenants ON ', found.name,
                ' FOR SELECT USING (tenant_id IN (SELECT platform.visible_tenants()))');
        END IF;
    END LOOP;
END $$;
