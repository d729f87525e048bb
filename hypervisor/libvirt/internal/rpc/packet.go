package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

const (
	programRemote    = 0x20008086
	programKeepalive = 0x6b656570
	version          = 1

	typeCall  = 0
	typeReply = 1
	typeEvent = 2

	ping = 1
	pong = 2

	headerSize = 28
	maxPacket  = 32 << 20
)

// header is what a packet begins with, after its length.
type header struct {
	program, version, procedure, kind, serial, status uint32
}

// packet makes a whole request, in p if there is room.
func packet(p Args, h header, body Args) Args {
	p = slices.Grow(p[:0], headerSize+len(body))
	p = p.U32(uint32(headerSize + len(body))).U32(h.program).U32(version).U32(h.procedure).U32(h.kind).U32(h.serial).U32(h.status)
	return append(p, body...)
}

// readPacket reads a packet. Memory is taken as bytes arrive, not as the length claims.
func readPacket(r io.Reader, scratch *[headerSize]byte) (header, []byte, error) {
	if _, err := io.ReadFull(r, scratch[:]); err != nil {
		return header{}, nil, err
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(scratch[4*i:]) }
	size := word(0)
	if size < headerSize || size > maxPacket {
		return header{}, nil, fmt.Errorf("%w: a length of %d", ErrMalformed, size)
	}
	h := header{word(1), word(2), word(3), word(4), word(5), word(6)}
	body, err := readBody(r, int(size-headerSize))
	return h, body, err
}

func readBody(r io.Reader, size int) ([]byte, error) {
	const step = 1 << 20
	body := room(min(size, step))
	for have := 0; ; {
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			return nil, err
		}
		if have = len(body); have == size {
			return body, nil
		}
		body = append(body, make([]byte, min(size-have, have))...)
	}
}

// bodies are large ones that have been read.
var bodies sync.Pool

const largeBody = 32 << 10

func room(size int) []byte {
	if size >= largeBody {
		if b, ok := bodies.Get().(*[]byte); ok && cap(*b) >= size {
			return (*b)[:size]
		}
	}
	return make([]byte, size)
}

func recycle(b []byte) {
	if cap(b) >= largeBody && cap(b) <= 1<<20 {
		bodies.Put(&b)
	}
}
