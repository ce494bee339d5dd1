package ssh

import (
	"net"
	"syscall"
)

// promptAcks makes the kernel acknowledge what was read at once. sshd leaves Nagle's algorithm on for
// commands, so its second small packet waits for our acknowledgement of the first, which Linux delays by
// 40 ms: twice a command.
func promptAcks(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	return &promptConn{Conn: conn, raw: raw}
}

type promptConn struct {
	net.Conn
	raw syscall.RawConn
}

// Read reads, then asks for an acknowledgement now; the kernel forgets the wish again by itself.
func (c *promptConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		// Without the option the connection is slower, not broken.
		_ = c.raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
		})
	}
	return n, err
}
