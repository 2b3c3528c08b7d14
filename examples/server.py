"""An asyncio server whose work runs in threads, and stops when the client leaves.

    python examples/server.py

It plays both sides: one client stays until its answer is there, one leaves before.
"""

import asyncio

from fastevent import Event, EventCancelled


def count_to(number, cancel):
    """Stand for blocking work in a library: it looks at *cancel* now and then."""
    for _ in range(number):
        cancel.check()
        cancel.wait(0.01)
    return number


async def serve(reader, writer, log):
    number = int(await reader.readline())
    cancel = Event()
    left = asyncio.ensure_future(reader.read())  # ends when the client leaves
    left.add_done_callback(lambda _: cancel.set("the client left"))
    try:
        # If this task is cancelled, to_thread() sets the event and waits for the thread.
        writer.write(f"{await cancel.to_thread(count_to, number, cancel)}\n".encode())
        await writer.drain()
    except EventCancelled as error:
        log(f"work for {number} {error}")
    finally:
        left.cancel()
        writer.close()


async def main():
    idle = Event()

    def log(line):
        print(line, flush=True)
        idle.set()

    server = await asyncio.start_server(lambda reader, writer: serve(reader, writer, log), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"5\n")
    print("answer:", (await reader.readline()).decode().strip())
    writer.close()

    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"1000000\n")
    await asyncio.sleep(0.1)
    writer.close()

    await idle.wait_async()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
