"""Shared events: one event that several processes of a machine hold.

The process that makes an event is its home. Each process that holds the event follows it over its one connection to the home.
A process that sets the event notifies the home, and the home notifies the followers. A forked child holds the events of its
parent, and follows them as any other process does.

    _event      what is documented, and the ticket that pickling gives
    _hub        puts the parts together; forks and exits
    _home       this process as a home: its events and its followers
    _follower   this process as a follower of another home
    _held       the events that are held here
    _sets       what is remembered of those that were set
    _reach      how a home is reached, and when it is gone
    _connection one end of a connection: outbox and inbox
    _loop       the thread
    _place      where a process is found, and whether it lives; what differs between systems
    _wire       lines and proofs
    _sockets    sockets that know whether their descriptor is still theirs

1. A shared event is only ever set. So a line may come late, twice or in another order.
2. The home registers a follower, and then looks whether the event is set. It records that an event is set, and then looks for
   followers. So no set falls in between. In the same way, a follower notes that it follows an event, then holds it, and then
   says that it follows.
3. The thread reads. Any thread and any signal handler sends: a line stands in an outbox until a call moves it to the socket.
   Only the call that holds the connection's claim may write to the socket, close or replace it. A set() waits a moment for such
   a call of another thread, because an `os._exit()` may follow. Nothing else waits for it.
4. A line is removed from the outbox after it was sent, so an exception from a signal handler repeats it at worst. A connection
   may end with lines in it. So a follower says again what the home has not confirmed, and which events it follows.
5. Before a home has proved that it knows the key, a follower says what only the key reads. Before a follower has, a home says
   nothing but its proof, and believes only a set that was sealed with the key: said again by another, it changes nothing.
6. What a home forgets is why an event was set, not that it was. It knows only events that it has made.
7. Whatever is used asks which process this is, and a socket whether its descriptor is its own.
"""
