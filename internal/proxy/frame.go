package proxy

import "encoding/binary"

// frames follows the frames of a WebSocket's client without keeping their
// payload, to tell a message (a person) from a ping or pong (a browser). Zero
// is the start of a stream.
type frames struct {
	skip uint64 // payload bytes still to come
	have uint8  // bytes in head
	head [14]byte
}

// The first byte's opcode bits: 0 continuation, 1 text, 2 binary, from 8 on
// control frames.
const (
	opcodeMask    = 0x0f
	firstControl  = 8
	lengthMask    = 0x7f
	lengthShort   = 126 // two bytes follow
	lengthLong    = 127 // eight bytes follow
	maskBit       = 0x80
	maskKeyLength = 4
)

// scan reads on and reports whether a data frame began in b.
func (f *frames) scan(b []byte) bool {
	data := false
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, uint64(len(b)))
			f.skip -= n
			b = b[n:]
			continue
		}
		f.head[f.have] = b[0]
		f.have++
		b = b[1:]
		if f.have < 2 || int(f.have) < headLength(f.head[1]) {
			continue
		}
		if f.head[0]&opcodeMask < firstControl {
			data = true
		}
		f.skip = payloadLength(&f.head)
		f.have = 0
	}
	return data
}

// headLength is how long a frame's head is, by its second byte.
func headLength(second byte) int {
	n := 2
	switch second & lengthMask {
	case lengthShort:
		n += 2
	case lengthLong:
		n += 8
	}
	if second&maskBit != 0 {
		n += maskKeyLength
	}
	return n
}

func payloadLength(head *[14]byte) uint64 {
	switch n := head[1] & lengthMask; n {
	case lengthShort:
		return uint64(binary.BigEndian.Uint16(head[2:4]))
	case lengthLong:
		return binary.BigEndian.Uint64(head[2:10])
	default:
		return uint64(n)
	}
}
