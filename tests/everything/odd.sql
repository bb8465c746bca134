-- What is seldom and yet somebody's, for psql as the administrator of PostgreSQL 18.
CREATE ROLE shop LOGIN; CREATE ROLE ada; CREATE ROLE bob;
CREATE DATABASE odd OWNER shop; CREATE DATABASE trap OWNER shop;
\connect odd
SET ROLE shop; GRANT CREATE ON SCHEMA public TO ada, bob;
CREATE TABLE busy (id bigserial PRIMARY KEY, x int);
-- a generated column calls a function of the user's, which calls another
CREATE FUNCTION rate() RETURNS numeric IMMUTABLE LANGUAGE sql RETURN 1.19;
CREATE FUNCTION gross(numeric) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN round($1 * public.rate(), 2); END';
CREATE TABLE prices (net numeric, gross numeric GENERATED ALWAYS AS (gross(net)) STORED, twice numeric GENERATED ALWAYS AS (net * 2) VIRTUAL, CHECK (gross(net) >= net));
INSERT INTO prices VALUES (100), (0), (NULL); CREATE UNIQUE INDEX ON prices (gross(net)) NULLS NOT DISTINCT WHERE gross(net) > 1;
-- partitions of partitions, each somebody else's, with a trigger of one alone
CREATE TABLE log (at date NOT NULL, who text NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (who);
CREATE TABLE log_2026_a PARTITION OF log_2026 FOR VALUES IN ('a', NULL); CREATE TABLE log_2026_rest PARTITION OF log_2026 DEFAULT;
CREATE TABLE log_later (what text, who text NOT NULL, dropped int, at date NOT NULL); ALTER TABLE log_later DROP COLUMN dropped; ALTER TABLE log ATTACH PARTITION log_later DEFAULT;
CREATE INDEX ON log (what); CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.what := upper(NEW.what); RETURN NEW; END';
CREATE TRIGGER loud BEFORE INSERT ON log_2026_a FOR EACH ROW EXECUTE FUNCTION shout(); ALTER TABLE log_2026_a ENABLE ALWAYS TRIGGER loud;
INSERT INTO log VALUES ('2026-05-01', 'a', 'loud'), ('2026-05-02', 'b', 'quiet'), ('2030-01-01', 'c', 'later');
UPDATE log_2026_a SET what = 'put back';
RESET ROLE; ALTER TABLE log_2026 OWNER TO ada; ALTER TABLE log_2026_a OWNER TO bob;
-- tables that refer to each other and to themselves, and rows that a constraint has never seen
SET ROLE shop; CREATE TABLE hen (id int PRIMARY KEY, egg int, name text); CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen DEFERRABLE INITIALLY DEFERRED, twin int REFERENCES egg);
INSERT INTO hen VALUES (1, 1, 'Berta'), (2, 99, 'Erna'); INSERT INTO egg VALUES (1, 1, NULL), (2, 2, 1); ALTER TABLE hen ADD CONSTRAINT comes_first FOREIGN KEY (egg) REFERENCES egg NOT VALID;
CREATE TABLE lenient (x int CONSTRAINT meant CHECK (x > 0) NOT ENFORCED, y int); INSERT INTO lenient VALUES (-1, NULL); ALTER TABLE lenient ADD CONSTRAINT filled NOT NULL y NOT VALID;
-- a view that stands by a primary key, is written to, and has another one's row type
CREATE VIEW per_hen AS SELECT hen.id, hen.name, count(egg.id) AS eggs FROM hen LEFT JOIN egg ON egg.hen = hen.id GROUP BY hen.id;
CREATE FUNCTION renamed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE public.hen SET name = NEW.name WHERE id = NEW.id; RETURN NEW; END';
CREATE TRIGGER instead INSTEAD OF UPDATE ON per_hen FOR EACH ROW EXECUTE FUNCTION renamed();
CREATE FUNCTION best(per_hen) RETURNS bool LANGUAGE sql STABLE AS 'SELECT ($1).eggs > 0'; CREATE TABLE kept (one hen, all_of_them hen[]); INSERT INTO kept SELECT hen, ARRAY[hen] FROM hen;
-- bookings that may not overlap, and how things are stored
CREATE EXTENSION btree_gist; CREATE TABLE booked (room int, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS)); INSERT INTO booked VALUES (1, '[2026-01-01,2026-01-03)');
CREATE TABLE stored (id int NOT NULL, t text STORAGE EXTERNAL COMPRESSION pglz, u text) WITH (fillfactor = 70, toast.autovacuum_enabled = false);
CREATE UNIQUE INDEX stored_id ON stored (id) INCLUDE (u); ALTER TABLE stored REPLICA IDENTITY USING INDEX stored_id; INSERT INTO stored SELECT g, repeat('x', 10000), NULL FROM generate_series(1, 10) g;
CREATE TYPE shape AS (a int, b text); CREATE TABLE shaped OF shape (PRIMARY KEY (a), b WITH OPTIONS DEFAULT 'none'); INSERT INTO shaped VALUES (1);
CREATE SCHEMA elsewhere; CREATE SEQUENCE elsewhere.numbers START 50; CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES; CREATE TABLE numbered (n int DEFAULT nextval('elsewhere.numbers')); INSERT INTO numbered DEFAULT VALUES; ALTER SEQUENCE elsewhere.numbers OWNED BY NONE;
-- an empty large object of somebody else's, and a full one
SET ROLE bob; SELECT lo_create(77); SELECT lo_from_bytea(78, decode(repeat('00ff', 5000), 'hex')); RESET ROLE;

\connect trap
SET ROLE shop; CREATE TABLE here (x int); INSERT INTO here VALUES (1);
CREATE FUNCTION factor() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2'; CREATE FUNCTION doubled(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 * factor(); END';
CREATE TABLE unqualified (x int, y int GENERATED ALWAYS AS (doubled(x)) STORED); INSERT INTO unqualified VALUES (1), (2); RESET ROLE;
