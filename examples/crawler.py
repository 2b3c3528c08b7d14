"""A pool of threads under a tree of deadlines: the whole crawl, each site, each page. What ends first ends all below it.

    python examples/crawler.py

The pages are made up: to fetch one takes a while, and some never answer.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from fastevent import Event, EventCancelled

CRAWL, SITE, PAGE = 3.0, 1.0, 0.2  # seconds, at most
SITES = {"quick.example": 0.01, "slow.example": 0.15, "stuck.example": 3600.0}  # how long a page of it takes
PAGES = 20


def fetch(seconds, limit):
    """Stand for a request: it takes *seconds*, and gives up as soon as *limit* is set."""
    limit.wait(seconds)
    limit.check()


def crawl_page(name, seconds, site):
    try:
        fetch(seconds, site.child(PAGE))
    except EventCancelled as error:  # an EventTimeout is one, too
        return f"{name}: {error}"
    return f"{name}: fetched"


def main():
    # In this order: leaving sets the event, and then waits for the threads of the pool.
    with ThreadPoolExecutor(8) as pool, Event(CRAWL, set_on_timeout=True) as crawl, crawl.set_on_signals():
        results = []
        for name, seconds in SITES.items():
            site = crawl.child(SITE, name=name)
            results += [pool.submit(crawl_page, name, seconds, site) for _ in range(PAGES)]
        outcomes = Counter(result.result() for result in results)
        took = crawl.status().elapsed
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} pages of {outcome}")
    print(f"all in {took:.1f} of {CRAWL:g} s")


if __name__ == "__main__":
    main()
