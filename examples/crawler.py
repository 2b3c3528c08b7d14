"""A pool of workers under a tree of deadlines: the whole crawl, each site, each page. Whatever ends first ends all below it.

    python examples/crawler.py

The pages are made up: to fetch one takes a while, and some never answer.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from fastevent import Event, EventCancelled, EventTimeout

CRAWL, SITE, PAGE = 3.0, 1.0, 0.2  # seconds, at most
SITES = {"quick.example": 0.01, "slow.example": 0.15, "stuck.example": 3600.0}  # how long a page of it takes
PAGES = 20


def fetch(seconds, limit):
    """Stand for a request: it takes *seconds*, and gives up as soon as *limit* says so."""
    limit.wait(seconds)
    limit.check()


def crawl_page(site, seconds, of_site):
    # Only who looks at it needs it, so no thread is started for its timeout: it is made and dropped.
    with Event(PAGE, parents=[of_site], set_on_timeout=True) as limit:
        try:
            fetch(seconds, limit)
        except EventTimeout as timeout:
            return f"{site}: {timeout}"
        except EventCancelled as cancelled:
            return f"{site}: {cancelled}"
        return f"{site}: fetched"


def main():
    with Event(CRAWL, set_on_timeout=True) as crawl, ThreadPoolExecutor(8) as pool:
        results = []
        with crawl.set_on_signals():
            for site, seconds in SITES.items():
                of_site = Event(SITE, parents=[crawl], set_on_timeout=True)
                results += [pool.submit(crawl_page, site, seconds, of_site) for _ in range(PAGES)]
            outcomes = Counter(result.result() for result in results)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} pages of {outcome}")
    print(f"all in {crawl.elapsed():.1f} of {crawl.timeout:g} s")


if __name__ == "__main__":
    main()
