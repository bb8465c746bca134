-- One of everything, for psql as the administrator in the database postgres. :owner is a project's role.
CREATE ROLE shop LOGIN PASSWORD 'secret'; COMMENT ON ROLE shop IS 'purveyor binding 1';
CREATE ROLE reader NOLOGIN; CREATE ROLE ada LOGIN PASSWORD 'it''s \ quoted' VALID UNTIL '2035-01-01' CONNECTION LIMIT 7 IN ROLE reader;
CREATE ROLE "Odd ""role" CREATEDB; CREATE ROLE chef; GRANT reader TO chef WITH ADMIN OPTION;
COMMENT ON ROLE ada IS 'who counts; "quoted", ünïcode';
ALTER ROLE ada SET work_mem = '7MB'; ALTER ROLE ada SET search_path = app, public, "$user"; ALTER ROLE ada SET app.tenant = 'it''s \ 7'; ALTER ROLE ALL SET vacuum_cost_limit = '321';
CREATE DATABASE shop OWNER shop; REVOKE ALL ON DATABASE shop FROM PUBLIC;
COMMENT ON DATABASE shop IS 'the shop''s'; ALTER DATABASE shop SET statement_timeout = '12345'; ALTER DATABASE shop SET "DateStyle" = 'German, DMY';
ALTER ROLE ada IN DATABASE shop SET search_path = app; ALTER DATABASE shop CONNECTION LIMIT 50; GRANT CONNECT ON DATABASE shop TO reader;
CREATE DATABASE "a=b" OWNER ada; CREATE DATABASE "it's ""odd""" OWNER shop; CREATE DATABASE bytes OWNER shop ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE archive2024 OWNER ada; CREATE DATABASE mould OWNER ada IS_TEMPLATE true; CREATE DATABASE bare OWNER shop;
ALTER DATABASE postgres SET search_path = app, public; ALTER DATABASE postgres SET "TimeZone" = 'Europe/Berlin';
ALTER ROLE ada IN DATABASE postgres SET statement_timeout = '30s'; ALTER DATABASE postgres CONNECTION LIMIT 80;
COMMENT ON DATABASE postgres IS 'reporting: do not drop'; REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO ada;
ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min'; ALTER SYSTEM SET work_mem = '64MB'; ALTER SYSTEM SET wal_level = 'logical';
SELECT pg_reload_conf();

\connect archive2024
CREATE TABLE old AS SELECT g AS id FROM generate_series(1, 30) g; ALTER TABLE old OWNER TO ada;
\connect mould
SET ROLE ada; CREATE TABLE public_idea (x int); RESET ROLE;
\connect "dbname='a=b' user=postgres"
CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); ALTER TABLE t OWNER TO ada;
\connect bytes
SET client_encoding = 'UTF8'; CREATE TABLE "größe" (name text); INSERT INTO "größe" VALUES ('für'); ALTER TABLE "größe" OWNER TO shop;
\connect bare
DROP SCHEMA public; DROP EXTENSION plpgsql;
\connect postgres
ALTER DATABASE archive2024 ALLOW_CONNECTIONS false;

\connect shop
CREATE EXTENSION postgres_fdw; CREATE SCHEMA extras AUTHORIZATION shop; CREATE EXTENSION btree_gist SCHEMA extras; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO shop;
GRANT USAGE ON SCHEMA extras TO PUBLIC;
SET SESSION AUTHORIZATION shop;
SET DateStyle = ISO; SET statement_timeout = 0;
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION pg_trgm;
CREATE SCHEMA app; CREATE SCHEMA "Odd schema";
CREATE TYPE app.mood AS ENUM ('sad', 'glad'); ALTER TYPE app.mood ADD VALUE 'so so' BEFORE 'glad';
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0); CREATE TYPE app.pair AS (a int, b text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE TABLE app.customers (id int GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 3) PRIMARY KEY, name text NOT NULL, mail citext, mood app.mood DEFAULT 'glad',
    status varchar(10) CHECK (status IN ('a', 'b')), born date, data jsonb, tags text[], photo bytea, p app.pair, n app.positive, h hstore, gone int,
    full_name text GENERATED ALWAYS AS (name || '!') STORED);
ALTER TABLE app.customers DROP COLUMN gone; ALTER TABLE app.customers ALTER COLUMN name SET STATISTICS 500;
INSERT INTO app.customers (name, mail, status, data, tags, photo, p, n, h, born) SELECT 'c' || g, 'C' || g || '@x.org', 'a', jsonb_build_object('n', g), ARRAY['a', 'b' || g],
    decode(md5(g::text), 'hex'), ROW(g, E'tab\there \\ and "quote"')::app.pair, g, hstore('k', g::text), '2000-01-01' FROM generate_series(1, 500) g;
CREATE TABLE app.orders (id bigserial PRIMARY KEY, customer int REFERENCES app.customers ON DELETE CASCADE, total numeric(10, 2), at timestamptz DEFAULT now());
INSERT INTO app.orders (customer, total) SELECT 100 + 3 * (g % 400), g / 7.0 FROM generate_series(1, 1000) g;
CREATE INDEX orders_at ON app.orders (at); CREATE UNIQUE INDEX customers_lower ON app.customers (lower(name)) WHERE n > 0; CREATE INDEX ON app.customers USING gin (name gin_trgm_ops);
CREATE INDEX ON app.orders USING brin (at); ALTER TABLE app.orders CLUSTER ON orders_at;
CREATE TABLE app.rooms (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&)); INSERT INTO app.rooms VALUES (1, '[2025-01-01,2025-01-02)');
CREATE TABLE app.events (at date NOT NULL, what text) PARTITION BY RANGE (at); CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT; INSERT INTO app.events SELECT '2025-06-01'::date + g, 'e' || g FROM generate_series(1, 300) g; CREATE INDEX ON app.events (at);
CREATE TABLE app.parent (x int); CREATE TABLE app.child (y int) INHERITS (app.parent); INSERT INTO app.child VALUES (1, 2);
CREATE VIEW app.rich AS SELECT customer, sum(total) AS total FROM app.orders GROUP BY customer; CREATE VIEW app.checked WITH (security_barrier) AS SELECT * FROM app.orders WHERE total > 0 WITH CHECK OPTION;
CREATE MATERIALIZED VIEW app.summary AS SELECT count(*) AS n FROM app.orders; CREATE UNIQUE INDEX ON app.summary (n); CREATE MATERIALIZED VIEW app.later AS SELECT 1 AS x WITH NO DATA;
CREATE FUNCTION app.double(x int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN x * 2; END'; CREATE FUNCTION app.body(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT x + 1; END;
CREATE FUNCTION app.mine() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = app AS 'SELECT current_user::text'; CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := now(); RETURN NEW; END'; CREATE TRIGGER stamped BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE TRIGGER asleep BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.stamp(); ALTER TABLE app.orders DISABLE TRIGGER asleep;
CREATE TABLE app.secrets (who text, what text); INSERT INTO app.secrets VALUES ('shop', 'x'), ('nobody', 'y'); ALTER TABLE app.secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE app.secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.secrets USING (who = current_user);
CREATE TABLE app.revoked (x int); INSERT INTO app.revoked VALUES (1), (2), (3); REVOKE ALL ON app.revoked FROM shop;
CREATE RULE quiet AS ON DELETE TO app.events_2025 DO INSTEAD NOTHING;
CREATE SEQUENCE app.numbers START 1000 INCREMENT 7; SELECT nextval('app.numbers'), nextval('app.numbers'); CREATE SEQUENCE app.untouched; CREATE SEQUENCE app.down INCREMENT -1 CYCLE MINVALUE -5; SELECT nextval('app.down');
SELECT lo_from_bytea(4711, 'a large object'); COMMENT ON LARGE OBJECT 4711 IS 'kept'; GRANT SELECT ON LARGE OBJECT 4711 TO reader;
CREATE AGGREGATE app.longest (text) (SFUNC = textcat, STYPE = text); CREATE COLLATION app.plain (locale = 'C'); CREATE OPERATOR app.<<* (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE TYPE app.celsius AS (d int); CREATE FUNCTION app.shown(app.celsius) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).d || '' C'''; CREATE CAST (app.celsius AS text) WITH FUNCTION app.shown(app.celsius);
CREATE TEXT SEARCH CONFIGURATION app.plainly (COPY = simple); CREATE STATISTICS app.stats ON id, customer FROM app.orders;
COMMENT ON TABLE app.customers IS 'who buys; "quoted" and ünïcode'; COMMENT ON COLUMN app.customers.name IS 'theirs';
CREATE PUBLICATION news FOR TABLE app.orders WHERE (total > 1);
CREATE TABLE "Odd schema"."Odd ""Na.me
" ("a b" int); INSERT INTO "Odd schema"."Odd ""Na.me
" VALUES (1); CREATE UNLOGGED TABLE app.scratch AS SELECT 1 AS x; CREATE TABLE app."50% off; \." (x text); INSERT INTO app."50% off; \." VALUES (E'\\.'), (NULL), ('');
CREATE TABLE app.busy (id bigserial PRIMARY KEY, x int);
GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT ON app.customers TO reader WITH GRANT OPTION; GRANT UPDATE (name) ON app.customers TO reader; GRANT CREATE ON SCHEMA app TO ada; REVOKE EXECUTE ON FUNCTION app.double(int) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO reader; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere', dbname 'x'); CREATE USER MAPPING FOR shop SERVER other OPTIONS (user 'u', password 'pass''word'); CREATE FOREIGN TABLE app.far (x int) SERVER other;
RESET SESSION AUTHORIZATION;
SET ROLE ada; SELECT lo_from_bytea(4712, 'hers'); GRANT SELECT ON LARGE OBJECT 4712 TO shop WITH GRANT OPTION; SET ROLE shop; GRANT SELECT ON LARGE OBJECT 4712 TO reader; SET ROLE ada; CREATE TABLE app.hers (x int); INSERT INTO app.hers VALUES (1); ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON SEQUENCES TO shop; RESET ROLE;
SET ROLE reader; GRANT SELECT ON app.customers TO chef; RESET ROLE;
CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION of_app FOR TABLES IN SCHEMA app;
