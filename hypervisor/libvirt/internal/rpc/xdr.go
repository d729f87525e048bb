package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits of what is decoded, as in libvirt's remote_protocol.x.
const (
	MaxString  = 4 << 20
	MaxDomains = 16_384
	maxParams  = 65_536
)

// ErrMalformed is a body that ends early, or that counts more than it holds.
var ErrMalformed = errors.New("rpc: malformed packet")

// Args is the body of a request in the making: XDR, RFC 4506.
type Args []byte

// U32 appends an unsigned integer, or a bool or a short.
func (a Args) U32(v uint32) Args { return binary.BigEndian.AppendUint32(a, v) }

// I32 appends an integer.
func (a Args) I32(v int32) Args { return a.U32(uint32(v)) }

// U64 appends an unsigned hyper.
func (a Args) U64(v uint64) Args { return binary.BigEndian.AppendUint64(a, v) }

// Str appends a string.
func (a Args) Str(s string) Args {
	a = append(a.U32(uint32(len(s))), s...)
	return a.pad(len(s))
}

// Opt appends an optional string: absent if it is "".
func (a Args) Opt(s string) Args {
	if s == "" {
		return a.U32(0)
	}
	return a.U32(1).Str(s)
}

// Bytes appends an opaque of variable length.
func (a Args) Bytes(b []byte) Args {
	a = append(a.U32(uint32(len(b))), b...)
	return a.pad(len(b))
}

// UUID appends an opaque of 16 bytes.
func (a Args) UUID(u [16]byte) Args { return append(a, u[:]...) }

// Dom appends a domain.
func (a Args) Dom(d Domain) Args { return a.Str(d.Name).UUID(d.UUID).I32(d.ID) }

// Params appends typed parameters.
func (a Args) Params(list ...Param) Args {
	a = a.U32(uint32(len(list)))
	for _, p := range list {
		a = a.Str(p.Field).U32(uint32(p.Value.Kind))
		switch p.Value.Kind {
		case KindString:
			a = a.Str(p.Value.Str)
		case KindInt64, KindUint64, KindFloat:
			a = a.U64(p.Value.bits)
		default:
			a = a.U32(uint32(p.Value.bits))
		}
	}
	return a
}

func (a Args) pad(n int) Args {
	for ; n%4 != 0; n++ {
		a = append(a, 0)
	}
	return a
}

// Domain names a virtual machine to the daemon.
type Domain struct {
	Name string
	UUID [16]byte
	ID   int32 // -1: not running
}

// Param is a typed parameter.
type Param struct {
	Field string
	Value Value
}

// Kind is the type of a Value, by libvirt's number.
type Kind uint32

// The kinds.
const (
	KindInt32  Kind = 1
	KindUint32 Kind = 2
	KindInt64  Kind = 3
	KindUint64 Kind = 4
	KindFloat  Kind = 5
	KindBool   Kind = 6
	KindString Kind = 7
)

// Value is the value of a typed parameter.
type Value struct {
	Kind Kind
	Str  string // of KindString
	bits uint64
}

// String is a Value.
func String(s string) Value { return Value{Kind: KindString, Str: s} }

// Uint64 is a Value.
func Uint64(v uint64) Value { return Value{Kind: KindUint64, bits: v} }

// Int32 is a Value.
func Int32(v int32) Value { return Value{Kind: KindInt32, bits: uint64(uint32(v))} }

// Int is the number, a bool as 0 or 1, a float cut; what does not fit is the largest or smallest there is. Of a string it is 0.
func (v Value) Int() int64 {
	switch v.Kind {
	case KindInt32:
		return int64(int32(v.bits))
	case KindUint64:
		return int64(min(v.bits, math.MaxInt64))
	case KindFloat:
		f := math.Float64frombits(v.bits)
		switch {
		case f >= math.MaxInt64:
			return math.MaxInt64
		case f <= math.MinInt64:
			return math.MinInt64
		case f != f:
			return 0
		}
		return int64(f)
	case KindString:
		return 0
	default:
		return int64(v.bits)
	}
}

// Reply decodes the body of a reply or an event. It keeps its first error, and gives zero values after it.
type Reply struct {
	b     []byte
	whole []byte
	err   error
}

// NewReply decodes b.
func NewReply(b []byte) Reply { return Reply{b: b, whole: b} }

// Done lets the body be used for another reply. Nothing may be read any more; a large reply that is read often is worth it.
func (r *Reply) Done() {
	recycle(r.whole)
	r.b, r.whole = nil, nil
}

// Err is what was wrong, ErrMalformed. Bytes that are left over are none of it: newer daemons say more.
func (r *Reply) Err() error { return r.err }

func (r *Reply) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	r.b = nil
}

// take gives the next n bytes and leaves out the padding; nil if they are not there.
func (r *Reply) take(n int) []byte {
	whole := (n + 3) &^ 3
	if whole > len(r.b) {
		r.fail("ends early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[whole:]
	return b
}

// U32 reads an unsigned integer.
func (r *Reply) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// I32 reads an integer.
func (r *Reply) I32() int32 { return int32(r.U32()) }

// U64 reads an unsigned hyper.
func (r *Reply) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// raw reads the bytes of a string or an opaque, valid until the body is.
func (r *Reply) raw() []byte {
	n := r.U32()
	if n > MaxString {
		r.fail("a string is too long")
		return nil
	}
	return r.take(int(n))
}

// Str reads a string.
func (r *Reply) Str() string { return string(r.raw()) }

// Bytes reads an opaque.
func (r *Reply) Bytes() []byte { return append([]byte(nil), r.raw()...) }

// Chars reads n characters, each in a word of its own, up to the first zero.
func (r *Reply) Chars(n int) string {
	out, end := make([]byte, 0, n), false
	for range n {
		c := byte(r.U32())
		if end = end || c == 0; !end {
			out = append(out, c)
		}
	}
	return string(out)
}

// UUID reads an opaque of 16 bytes.
func (r *Reply) UUID() (u [16]byte) {
	copy(u[:], r.take(16))
	return u
}

// Dom reads a domain.
func (r *Reply) Dom() Domain { return Domain{Name: r.Str(), UUID: r.UUID(), ID: r.I32()} }

// DomRaw reads a domain without taking memory: the name is valid until the body is.
func (r *Reply) DomRaw() (name []byte, uuid [16]byte, id int32) {
	name = r.raw()
	copy(uuid[:], r.take(16))
	return name, uuid, r.I32()
}

// Count reads the length of an array of at most limit items of size bytes at least; an array that cannot be there is an error.
func (r *Reply) Count(limit, size int) int {
	n := int(r.U32())
	if n > limit || n*size > len(r.b) {
		r.fail(fmt.Sprintf("%d items", n))
		return 0
	}
	return n
}

// Doms reads an array of domains.
func (r *Reply) Doms() []Domain {
	list := make([]Domain, 0, r.Count(MaxDomains, 24))
	for range cap(list) {
		list = append(list, r.Dom())
	}
	return list
}

// Params reads an array of typed parameters, each given to f. The field is valid until f returns.
func (r *Reply) Params(f func(field []byte, v Value)) {
	for range r.Count(maxParams, 12) {
		field := r.raw()
		v := Value{Kind: Kind(r.U32())}
		switch v.Kind {
		case KindString:
			v.Str = r.Str()
		case KindInt64, KindUint64, KindFloat:
			v.bits = r.U64()
		case KindInt32, KindUint32, KindBool:
			v.bits = uint64(r.U32())
		default:
			r.fail(fmt.Sprintf("parameter of kind %d", v.Kind))
		}
		if r.err != nil {
			return
		}
		f(field, v)
	}
}
