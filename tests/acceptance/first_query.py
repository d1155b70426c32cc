"""Turns a lake into the first table that a newcomer wants to see: sales by payment method and month."""

import sys

import duckdb

QUERY = """
select
  payment_method_details_type as method,
  strftime(created, '%Y-%m') as month,
  count(*) as n_charges,
  (sum(amount)::bigint * 0.01)::decimal(18, 2) as usd
from charges
where currency = 'usd' and paid
group by all
order by month desc, usd desc
limit 12
"""


def main(lake):
    with duckdb.connect() as con:
        con.execute(open(f"{lake}/_stripelake/views.sql").read())
        print(QUERY)
        con.sql(QUERY).show()


if __name__ == "__main__":
    main(sys.argv[1])
