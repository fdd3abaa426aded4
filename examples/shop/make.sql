-- The shop of the examples: customers, products, orders and their items, the same bytes of data each time.
--
-- Rebuild it from the top folder of the repository with
--
--     rm -f examples/shop/shop.db && sqlite3 examples/shop/shop.db < examples/shop/make.sql
--
-- All "random" choices are remainders of products with primes, so nothing depends on a clock or a seed.

PRAGMA page_size = 4096;
PRAGMA journal_mode = DELETE;
BEGIN;

CREATE TABLE customers (
  id           INTEGER PRIMARY KEY,
  name         VARCHAR(80) NOT NULL,
  email        VARCHAR(120) UNIQUE,
  country      CHAR(2) NOT NULL,
  city         TEXT,
  birthday     DATE,
  newsletter   BOOLEAN NOT NULL DEFAULT 0,
  credit_limit DECIMAL(12,2),
  note         TEXT,
  created_at   DATETIME NOT NULL
);

CREATE TABLE products (
  sku         VARCHAR(12) NOT NULL PRIMARY KEY,
  name        TEXT NOT NULL,
  price       DECIMAL(12,2) NOT NULL,
  weight_kg   REAL,
  attributes  JSON,
  thumbnail   BLOB,
  active      BOOLEAN NOT NULL,
  launched_on DATE
);

CREATE TABLE orders (
  id          INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers(id),
  status      VARCHAR(10) NOT NULL,
  ordered_at  DATETIME NOT NULL,
  shipped_on  DATE,
  total       DECIMAL(12,2) NOT NULL,
  currency    CHAR(3) NOT NULL,
  comment     TEXT
);

CREATE TABLE order_items (
  order_id   INTEGER NOT NULL REFERENCES orders(id),
  line       INTEGER NOT NULL,
  sku        VARCHAR(12) NOT NULL REFERENCES products(sku),
  quantity   INTEGER NOT NULL,
  unit_price DECIMAL(12,2) NOT NULL,
  discount   DECIMAL(5,4),
  options    JSON,
  PRIMARY KEY (order_id, line)
) WITHOUT ROWID;

CREATE INDEX orders_by_customer ON orders(customer_id);

CREATE TEMP TABLE first_names(n INTEGER PRIMARY KEY, name TEXT);
INSERT INTO first_names(name) VALUES
  ('Anna'), ('Björn'), ('Chloé'), ('Dmitri'), ('Eszter'), ('François'), ('Gülşen'), ('Håkon'), ('Ines'), ('José'),
  ('Katarzyna'), ('Łukasz'), ('Maren'), ('Nguyễn'), ('Olga'), ('Şebnem'), ('Þóra'), ('小林'), ('𠮷野'), ('Zoë');

CREATE TEMP TABLE last_names(n INTEGER PRIMARY KEY, name TEXT);
INSERT INTO last_names(name) VALUES
  ('Andersson'), ('Bjørnstad'), ('O''Connor'), ('Dvořák'), ('Ekström'), ('Fernández'), ('García'), ('Horváth'),
  ('Иванова'), ('Jørgensen'), ('Kowalczyk'), ('Lefèvre'), ('Müller'), ('Nowak'), ('Öztürk'), ('Papadopoulou'),
  ('van der Berg');

CREATE TEMP TABLE places(n INTEGER PRIMARY KEY, country TEXT, city TEXT, currency TEXT);
INSERT INTO places(country, city, currency) VALUES
  ('SE', 'Göteborg', 'SEK'), ('DE', 'München', 'EUR'), ('FR', 'Orléans', 'EUR'), ('PL', 'Łódź', 'PLN'),
  ('TR', 'İzmir', 'TRY'), ('JP', '東京', 'JPY'), ('IE', 'Dún Laoghaire', 'EUR'), ('ES', 'A Coruña', 'EUR'),
  ('NO', 'Tromsø', 'NOK'), ('NL', '''s-Hertogenbosch', 'EUR'), ('IS', NULL, 'ISK');

WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 300)
INSERT INTO customers
SELECT i,
       f.name || ' ' || l.name,
       CASE WHEN i % 17 THEN 'customer' || i || '@example.' || lower(p.country) END,
       p.country,
       p.city,
       CASE WHEN i % 9 THEN date('1950-01-01', '+' || (i * 7919 % 20000) || ' days') END,
       i % 3 = 0,
       CASE WHEN i % 5 THEN printf('%d.%02d', 250 + i * 131 % 9000, i * 37 % 100) END,
       CASE i % 23 WHEN 0 THEN 'likes 🚲 and ☕' WHEN 1 THEN '' WHEN 2 THEN 'two' || char(10) || 'lines, "quoted"' END,
       strftime('%Y-%m-%d %H:%M:%S', '2022-01-01 06:00:00', '+' || (i * 104729 % 700) || ' days',
                '+' || (i * 1299709 % 50000) || ' seconds')
FROM c
JOIN first_names f ON f.n = i * 7 % 20 + 1
JOIN last_names l ON l.n = i * 5 % 17 + 1
JOIN places p ON p.n = i * 3 % 11 + 1;

CREATE TEMP TABLE things(n INTEGER PRIMARY KEY, name TEXT, cents INTEGER, weight REAL);
INSERT INTO things(name, cents, weight) VALUES
  ('Espresso cup', 890, 0.21), ('Teapot, cast iron', 5495, 1.4), ('Café crème mug', 1250, 0.35),
  ('Bread knife', 3900, 0.18), ('Olive oil 500 ml', 1399, 0.95), ('Crème brûlée set', 4250, 1.05),
  ('Wool blanket', 8999, 1.6), ('Candle “Fjord”', 1790, 0.4), ('Notebook A5', 649, 0.3),
  ('Fountain pen', 2999, 0.03), ('Puzzle 1000 🧩', 1999, 0.8), ('Bicycle bell 🚲', 1149, 0.12),
  ('Gift card', 2500, NULL), ('Übertopf', 1825, 2.2), ('Matcha 抹茶', 2175, 0.1), ('Salmiak liquorice', 399, 0.2);

WITH RECURSIVE p(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM p WHERE i < 64)
INSERT INTO products
SELECT printf('SKU-%04d', i * 13),
       t.name || CASE (i - 1) / 16 WHEN 0 THEN '' WHEN 1 THEN ' (blue)' WHEN 2 THEN ' (grün)' ELSE ' (set of 2)' END,
       printf('%d.%02d', (t.cents * (1 + (i > 48))) / 100, (t.cents * (1 + (i > 48))) % 100),
       t.weight,
       CASE WHEN i % 7 THEN json_object('color', CASE i % 4 WHEN 0 THEN 'white' WHEN 1 THEN 'blue' WHEN 2 THEN 'grün'
                                                 ELSE NULL END,
                                        'tags', json_array('home', 'tag-' || (i % 5)), 'stock', i * 31 % 200) END,
       CASE WHEN i % 4 THEN CAST(X'89504E470D0A1A0A' || char(i, i * 3, i * 7) AS BLOB) END,
       i % 11 <> 0,
       CASE WHEN i % 6 THEN date('2019-03-01', '+' || (i * 53) || ' days') END
FROM p
JOIN things t ON t.n = (i - 1) % 16 + 1;

WITH RECURSIVE o(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM o WHERE i < 900)
INSERT INTO orders
SELECT 10000 + i,
       1 + i * 7877 % 300,
       CASE WHEN i > 880 THEN 'new' WHEN i % 29 = 0 THEN 'cancelled' WHEN i % 13 = 0 THEN 'returned' ELSE 'shipped' END,
       strftime('%Y-%m-%d %H:%M:%S', '2024-01-01 08:00:00', '+' || (i * 11 + i * 7919 % 10) || ' hours',
                '+' || (i * 611953 % 3600) || ' seconds') || CASE i % 8 WHEN 3 THEN printf('.%06d', i * 1097) ELSE '' END,
       CASE WHEN i <= 880 AND i % 29 THEN date('2024-01-02', '+' || (i * 11 / 24 + i % 4) || ' days') END,
       0,
       (SELECT p.currency FROM places p JOIN customers c ON c.country = p.country WHERE c.id = 1 + i * 7877 % 300),
       CASE i % 31 WHEN 0 THEN 'please ring twice 🔔🔔' WHEN 5 THEN 'für Łukasz' WHEN 9 THEN '' END
FROM o;

WITH RECURSIVE k(line) AS (SELECT 1 UNION ALL SELECT line + 1 FROM k WHERE line < 4)
INSERT INTO order_items
SELECT o.id, k.line, p.sku,
       1 + (o.id * k.line) % 5,
       p.price,
       CASE WHEN (o.id + k.line) % 6 = 0 THEN '0.1250' WHEN (o.id + k.line) % 11 = 0 THEN '0.0500' END,
       CASE WHEN (o.id + k.line) % 9 = 0 THEN json_object('gift', json('true'), 'text', 'Alles Gute 🎁') END
FROM orders o
JOIN k ON k.line <= 1 + o.id * 17 % 4
JOIN products p ON p.sku = printf('SKU-%04d', 13 * (1 + (o.id * 31 + k.line * 23) % 64));

-- Money is added in cents, as whole numbers.
UPDATE orders SET total = (
  SELECT printf('%d.%02d', sum(cents) / 100, sum(cents) % 100)
  FROM (SELECT CAST(round(quantity * unit_price * (1 - ifnull(discount, 0)) * 100) AS INTEGER) AS cents
        FROM order_items WHERE order_id = orders.id));

COMMIT;
ANALYZE;
VACUUM;
