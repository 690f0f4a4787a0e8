-- The id of a record whose source key is no UUID: RFC 9562 version 3 in the project's namespace, so that
-- Python's uuid.uuid3(NAMESPACE, entity || ':' || key) gives the same. A key that is a UUID is itself.
CREATE OR REPLACE FUNCTION ingestion.stable_uuid(entity text, source_key text) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE RETURN (
    SELECT CAST(overlay(overlay(digest PLACING '3' FROM 13 FOR 1)
        PLACING translate(substr(digest, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab') FROM 17 FOR 1) AS uuid)
    FROM (SELECT md5(decode('7f1d2c7e3c1b5d0c9a5e6a1f0b9d4e21', 'hex')
        || convert_to(entity || ':' || source_key, 'UTF8')) AS digest) AS hashed
);
