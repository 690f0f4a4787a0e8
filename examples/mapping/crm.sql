-- A small CRM as somebody else designed it: its tables, names, codes and keys are not ours.
-- Runs on SQLite and on PostgreSQL.

CREATE TABLE managers (
    login TEXT PRIMARY KEY,
    given_name TEXT,
    family_name TEXT,
    mail TEXT,
    zone TEXT
);

-- An account has no id of its own: the country and a number within it name it.
CREATE TABLE accounts (
    country TEXT NOT NULL,
    account_no INTEGER NOT NULL,
    title TEXT NOT NULL,
    kind TEXT,              -- ST state, IO international organisation
    continent TEXT,
    secrecy INTEGER,        -- 1 public, 2 internal, 3 confidential
    manager TEXT,
    opened DATE,
    archived BOOLEAN,
    website TEXT,
    PRIMARY KEY (country, account_no)
);

CREATE TABLE interactions (
    interaction_id INTEGER PRIMARY KEY,
    country TEXT NOT NULL,
    account_no INTEGER NOT NULL,
    channel TEXT,
    summary TEXT,
    happened TIMESTAMP      -- local time
);

CREATE TABLE promises (
    country TEXT NOT NULL,
    account_no INTEGER NOT NULL,
    promise_no INTEGER NOT NULL,
    wording TEXT,
    state TEXT,             -- O open, W in work, D done, X cancelled
    urgency INTEGER,        -- 1 high, 2 medium, 3 low
    responsible TEXT,
    promised DATE,
    deadline DATE,
    kept DATE,
    PRIMARY KEY (country, account_no, promise_no)
);

INSERT INTO managers VALUES ('a.lee', 'Ann', 'Lee', 'ann.lee@example.org', 'Europe/Oslo');
INSERT INTO managers VALUES ('b.roy', 'Ben', 'Roy', 'ben.roy@example.org', NULL);

INSERT INTO accounts VALUES
    ('SE', 1, 'Ministry of Foreign Affairs', 'ST', 'Europe', 1, 'a.lee', '2020-02-01', FALSE, 'https://example.org');
INSERT INTO accounts VALUES ('SE', 2, 'Nordic Council', 'IO', 'Europe', 2, 'a.lee', '2021-06-15', FALSE, NULL);
INSERT INTO accounts VALUES ('KE', 1, 'State House', 'ST', 'Africa', 3, 'b.roy', '2022-11-30', FALSE, NULL);
INSERT INTO accounts VALUES ('KE', 2, 'Merged into State House', 'ST', 'Africa', 3, 'b.roy', '2019-01-01', TRUE, NULL);

INSERT INTO interactions VALUES (101, 'SE', 1, 'visit', 'Opening of the fair', '2025-01-14 10:00:00');
INSERT INTO interactions VALUES (102, 'SE', 1, 'call', 'Follow-up', '2025-03-02 15:30:00');
INSERT INTO interactions VALUES (103, 'SE', 1, 'call', 'Dates for the visit', '2025-06-20 09:00:00');
INSERT INTO interactions VALUES (104, 'SE', 2, 'mail', NULL, '2024-09-09 08:00:00');
INSERT INTO interactions VALUES (105, 'KE', 1, 'visit', 'First contact', '2025-05-05 11:00:00');

INSERT INTO promises VALUES
    ('SE', 1, 1, 'Send the figures', 'D', 1, 'a.lee', '2025-01-14', '2025-02-01', '2025-01-30');
INSERT INTO promises VALUES ('SE', 1, 2, 'Name an envoy', 'O', 2, 'a.lee', '2025-03-02', '2025-05-01', NULL);
INSERT INTO promises VALUES ('KE', 1, 1, 'Draft the agreement', 'W', 1, 'b.roy', '2025-05-05', '2025-12-01', NULL);
-- Nobody knows what H means any more: this row is set aside.
INSERT INTO promises VALUES ('KE', 1, 2, 'Return the flag', 'H', 3, 'b.roy', '2025-05-05', '2025-09-01', NULL);
