# case 13: TCP, UDP, DNS and Unix sockets
# expect: P
import contextlib, socket
def attempt(action):
    with contextlib.suppress(OSError):
        action()
        print("ESCAPED")
attempt(lambda: socket.create_connection(("127.0.0.1", {PORT}), 0.2))
attempt(lambda: socket.create_connection(("1.1.1.1", 53), 0.2))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53)))
attempt(lambda: socket.getaddrinfo("example.com", 80))
attempt(lambda: socket.socket(socket.AF_UNIX).connect("{TOKEN}.socket"))
attempt(lambda: socket.socket(socket.AF_UNIX).connect("\0m2rl-hostile-{PID}"))
attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 22)))
attempt(lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET))
print(int(input()) ** 2)
