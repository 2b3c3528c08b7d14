"""python apscheduler_jobs.py"""

import time

from apscheduler.schedulers.background import BackgroundScheduler

from fastevent import Event

running = {}  # by the id of a job


def work(job_id):
    with shutdown.child(timeout=3600) as running[job_id]:
        while not running[job_id].wait(0.1):
            pass  # a round of work
        print("stopped:", running[job_id].reason)


if __name__ == "__main__":
    scheduler = BackgroundScheduler()
    scheduler.start()
    with Event(name="scheduler") as shutdown, shutdown.set_on_signals():
        for job_id in "one", "two":
            scheduler.add_job(work, args=[job_id], id=job_id)
        time.sleep(1)
        running["one"].set("cancelled by Ann")
        shutdown.set("cancelled by Ann")  # all others
        scheduler.shutdown()  # waits for them
