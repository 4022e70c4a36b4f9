-- Types that only functions use. Those of columns are tables' (migrations): usage_charge is what a call was charged to
-- a budget's window, usage_throttle what it was charged to a limit.

-- What a window's counters change by.
CREATE TYPE usage_change AS (budget bigint, start timestamptz, spent numeric, held numeric);
-- The answer about a call, and details as JSON.
CREATE TYPE usage_verdict AS (id uuid, verdict text, detail text);
-- An admission as it is asked for. `admitted_at` is set for calls that passed while the database was unavailable.
CREATE TYPE usage_asked AS ({{admission: # @}}, admitted_at timestamptz);
-- A settlement. Functions fill in the members after the columns: the call whose hold it is, where its row has another
-- id; what was called, where it differs from the hold; and when the call ended.
CREATE TYPE usage_settled AS (
    {{settlement: # @}}, call uuid, endpoint text, requested_model text, client_labels jsonb, ended_at timestamptz);
-- An admission that budgets or limits apply to, and which.
CREATE TYPE usage_counted AS (asked usage_asked, budgets bigint[], throttles bigint[]);
-- What a call needs of a budget's window or of a limit's bucket, and the room in it. `slot` numbers what is locked, and
-- is null for what is not. `full_room` is the room (of tokens) in a full bucket, `pace` what it gains in a second.
CREATE TYPE usage_need AS (
    slot integer, budget bigint, start timestamptz, tokens boolean, throttle bigint, binding boolean, need numeric,
    room numeric, full_room numeric, pace numeric);
-- A call, who makes it, and what it needs. A hold is made of it.
CREATE TYPE usage_weighed AS (
    asked usage_asked, virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text,
    needs usage_need[]);
-- A call whose row was written: what was held of budgets and limits, what is spent, and its tokens by what limits
-- count.
CREATE TYPE usage_ended AS (
    id uuid, held usage_charge[], spent usage_charge[], throttles usage_throttle[], input_tokens numeric,
    cached_tokens numeric, output_tokens numeric);
-- The result of settlements: the number of new rows and what their owners pay, the calls that counters have, and ids for which no
-- row was written.
CREATE TYPE usage_made AS (written bigint, owed numeric, ended usage_ended[], missing uuid[]);
-- Settlements: verdicts on those that were not simply settled, and what the counters change by.
CREATE TYPE usage_closed AS (verdicts usage_verdict[], changes usage_change[], corrections usage_throttle[]);
