# case 11: fills kernel buffers and files in memory, which no process counts as its own
# expect: P
import fcntl, os, socket
taken, kept, block = 0, [], b"x" * 65536
def fill(descriptor):
    global taken
    os.set_blocking(descriptor, False)
    try:
        while True: taken += os.write(descriptor, block)
    except OSError:
        pass
def in_memory():
    kept.append(os.memfd_create("hoard"))
    fill(kept[-1])
def in_pipes():
    kept.extend(os.pipe())
    fcntl.fcntl(kept[-1], 1031, 1 << 20)   # F_SETPIPE_SZ
    fill(kept[-1])
def in_sockets():
    kept.extend(socket.socketpair())
    fill(kept[-1].fileno())
def over_tcp():
    server = socket.create_server(("127.0.0.1", 0))
    kept.extend((server, socket.create_connection(server.getsockname()), server.accept()))
    fill(kept[-2].fileno())
answer = int(input()) ** 2
for hoard in (in_memory, over_tcp, in_pipes, in_sockets):
    try:
        while True: hoard()
    except OSError:
        pass
    if taken > 64 << 20: os.write(1, b"ESCAPED")
    for thing in kept: os.close(thing) if isinstance(thing, int) else None
    kept.clear()
print(answer)
