// Package trace keeps what happened in a simulated world, a line per scheduling point, and its SHA-256.
package trace

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"time"
)

// Log is a trace. Its owner serialises calls. At most Keep lines stay; the hash covers all of them.
type Log struct {
	Keep int // default 200,000

	start time.Time
	buf   []byte
	ends  []int // of the closed lines in buf
	total int
	hash  hash.Hash

	open   bool // the last line awaits its result
	note   string
	result string
}

// New starts a trace whose times are counted from start.
func New(start time.Time) *Log { return &Log{Keep: 200_000, start: start, hash: sha256.New()} }

// Op opens the line of an operation of goroutine who; Result completes it.
func (l *Log) Op(now time.Time, who, op, key string) {
	l.Close()
	l.stamp(now)
	l.buf = append(append(l.buf, who...), ' ')
	l.buf = append(l.buf, op...)
	if key != "" {
		l.buf = append(append(l.buf, " key="...), key...)
	}
	l.open, l.note, l.result = true, "", "ok"
}

// Result says how the operation of the open line went; note is what its answer was, "" for nothing.
func (l *Log) Result(note, result string) { l.note, l.result = note, result }

// Mark adds a line for what is no operation: a fault (!!), a jump of time (..), a check.
func (l *Log) Mark(now time.Time, text string) {
	l.Close()
	l.stamp(now)
	l.buf = append(l.buf, text...)
	l.end()
}

// Close ends the open line.
func (l *Log) Close() {
	if !l.open {
		return
	}
	if l.note != "" {
		l.buf = append(append(l.buf, ' '), l.note...)
	}
	l.buf = append(append(l.buf, " -> "...), l.result...)
	l.open = false
	l.end()
}

func (l *Log) end() {
	from := 0
	if n := len(l.ends); n > 0 {
		from = l.ends[n-1]
	}
	// A line stays one line, whatever an error's text holds.
	for i := from; i < len(l.buf); i++ {
		if l.buf[i] == '\n' {
			l.buf[i] = ' '
		}
	}
	l.buf = append(l.buf, '\n')
	l.hash.Write(l.buf[from:])
	l.ends = append(l.ends, len(l.buf))
	l.total++
	if len(l.ends) >= 2*l.Keep {
		l.drop(len(l.ends) - l.Keep)
	}
}

func (l *Log) drop(n int) {
	cut := l.ends[n-1]
	l.buf = append(l.buf[:0], l.buf[cut:]...)
	l.ends = append(l.ends[:0], l.ends[n:]...)
	for i := range l.ends {
		l.ends[i] -= cut
	}
}

// stamp writes T+HH:MM:SS.nnnnnnnnn and a space.
func (l *Log) stamp(now time.Time) {
	d := now.Sub(l.start)
	l.buf = append(l.buf, "T+"...)
	l.pad(int64(d/time.Hour), 2)
	l.buf = append(l.buf, ':')
	l.pad(int64(d/time.Minute%60), 2)
	l.buf = append(l.buf, ':')
	l.pad(int64(d/time.Second%60), 2)
	l.buf = append(l.buf, '.')
	l.pad(int64(d%time.Second), 9)
	l.buf = append(l.buf, ' ')
}

func (l *Log) pad(n int64, width int) {
	var b [20]byte
	s := strconv.AppendInt(b[:0], n, 10)
	for i := len(s); i < width; i++ {
		l.buf = append(l.buf, '0')
	}
	l.buf = append(l.buf, s...)
}

// Total is the number of lines ever written.
func (l *Log) Total() int { return l.total }

// Sum is the SHA-256 of all lines, each with its newline.
func (l *Log) Sum() string { l.Close(); return hex.EncodeToString(l.hash.Sum(nil)) }

// Lines gives the lines kept, oldest first, and as last one the hash.
func (l *Log) Lines() []string { return append(l.Tail(len(l.ends)+1), "sha256 "+l.Sum()) }

// Tail gives the last n lines at most.
func (l *Log) Tail(n int) []string {
	l.Close()
	out := []string{}
	for i := max(0, len(l.ends)-n); i < len(l.ends); i++ {
		out = append(out, string(l.line(i)))
	}
	return out
}

func (l *Log) line(i int) []byte {
	from := 0
	if i > 0 {
		from = l.ends[i-1]
	}
	return l.buf[from : l.ends[i]-1]
}

// Diff names the first line in which a and b differ, "" if they are the same trace.
func Diff(a, b *Log) string {
	if a.Sum() == b.Sum() {
		return ""
	}
	ia, ib := a.total-len(a.ends), b.total-len(b.ends) // lines dropped
	for i := max(ia, ib); ; i++ {
		x, y := []byte("(end of trace)"), []byte("(end of trace)")
		if i < a.total {
			x = a.line(i - ia)
		}
		if i < b.total {
			y = b.line(i - ib)
		}
		if !bytes.Equal(x, y) {
			text := fmt.Sprintf("first differing line %d:", i+1)
			for k := max(ia, ib, i-6); k < i; k++ {
				text += "\n    both: " + string(a.line(k-ia))
			}
			return text + fmt.Sprintf("\n    once: %s\n    then: %s", x, y)
		}
		if i >= a.total && i >= b.total {
			return "the traces differ in lines that were dropped"
		}
	}
}
