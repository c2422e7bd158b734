-- SQLite evaluates both EXISTS of the specification's text for each line of Saudi Arabia, over all
-- cold files each time. This asks once for each order how many suppliers it has, and how many late.
WITH counted AS (
    SELECT
        l_orderkey,
        count(DISTINCT l_suppkey) AS suppliers,
        count(DISTINCT CASE WHEN l_receiptdate > l_commitdate THEN l_suppkey END) AS late
    FROM lineitem
    GROUP BY l_orderkey)
SELECT s_name, count(*) AS numwait
FROM supplier, lineitem l1, orders, nation
WHERE s_suppkey = l1.l_suppkey
    AND o_orderkey = l1.l_orderkey
    AND o_orderstatus = 'F'
    AND l1.l_receiptdate > l1.l_commitdate
    AND l1.l_orderkey IN (SELECT l_orderkey FROM counted WHERE suppliers > 1 AND late = 1)
    AND s_nationkey = n_nationkey
    AND n_name = 'SAUDI ARABIA'
GROUP BY s_name
ORDER BY numwait DESC, s_name
LIMIT 100
