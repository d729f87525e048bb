package memory

import (
	"iter"
	"slices"
	"sort"
)

const chunkSize = 256

// entry orders rows by a key of the set's choice (a time in microseconds, a Place), then by Seq.
type entry struct {
	key, seq int64
	r        *rec
}

func (e entry) less(f entry) bool { return e.key < f.key || e.key == f.key && e.seq < f.seq }

// set is an ordered set of rows in sorted chunks: both ends are reached at once, anything else by two binary searches.
type set struct {
	chunks [][]entry // none empty
	n      int
}

func (s *set) add(key int64, r *rec) {
	e := entry{key, r.Seq, r}
	s.n++
	c := s.chunkOf(e)
	if c == len(s.chunks) { // behind all others
		if c == 0 {
			s.chunks = append(s.chunks, []entry{e})
			return
		}
		if len(s.chunks[c-1]) >= chunkSize {
			s.chunks = append(s.chunks, append(make([]entry, 0, chunkSize), e))
			return
		}
		s.chunks[c-1] = append(s.chunks[c-1], e)
		return
	}
	chunk := s.chunks[c]
	if len(chunk) >= 2*chunkSize {
		half := slices.Clone(chunk[chunkSize:])
		clear(chunk[chunkSize:])
		s.chunks[c] = chunk[:chunkSize]
		s.chunks = slices.Insert(s.chunks, c+1, half)
		if s.chunks[c][chunkSize-1].less(e) {
			c++
		}
	}
	s.chunks[c] = slices.Insert(s.chunks[c], indexIn(s.chunks[c], e), e)
}

// remove takes out r, which was added with this very key, and tells whether it was there.
func (s *set) remove(key int64, r *rec) bool {
	e := entry{key, r.Seq, r}
	c := s.chunkOf(e)
	if c == len(s.chunks) {
		return false
	}
	chunk := s.chunks[c]
	i := indexIn(chunk, e)
	if chunk[i].r != r {
		return false
	}
	s.n--
	switch {
	case len(chunk) == 1:
		s.chunks = slices.Delete(s.chunks, c, c+1)
	case i == 0:
		chunk[0] = entry{}
		s.chunks[c] = chunk[1:]
	default:
		s.chunks[c] = slices.Delete(chunk, i, i+1)
	}
	return true
}

// chunkOf is the first chunk that ends at or behind e.
func (s *set) chunkOf(e entry) int {
	n := len(s.chunks)
	if n == 0 || !e.less(s.chunks[0][len(s.chunks[0])-1]) {
		if n > 0 && s.chunks[n-1][len(s.chunks[n-1])-1].less(e) {
			return n
		}
		return sort.Search(n, func(i int) bool { return !s.chunks[i][len(s.chunks[i])-1].less(e) })
	}
	return 0
}

func indexIn(chunk []entry, e entry) int {
	if !chunk[0].less(e) {
		return 0
	}
	return sort.Search(len(chunk), func(i int) bool { return !chunk[i].less(e) })
}

func (s *set) first() *rec {
	if s.n == 0 {
		return nil
	}
	return s.chunks[0][0].r.open()
}

// all goes through the set in order; the set must not change meanwhile.
func (s *set) all() iter.Seq[*rec] { return s.after(-1<<63, -1<<63) }

// after goes through what lies behind (key, seq), in order.
func (s *set) after(key, seq int64) iter.Seq[*rec] { return readable(s.shut(key, seq)) }

func readable(rows iter.Seq[*rec]) iter.Seq[*rec] {
	return func(yield func(*rec) bool) {
		for r := range rows {
			if !yield(r.open()) {
				return
			}
		}
	}
}

// shut is after, with rows as they are kept.
func (s *set) shut(key, seq int64) iter.Seq[*rec] {
	return func(yield func(*rec) bool) {
		at := entry{key: key, seq: seq}
		for _, chunk := range s.chunks[s.chunkOf(at):] {
			for _, e := range chunk[indexIn(chunk, at):] {
				if at.less(e) && !yield(e.r) {
					return
				}
			}
		}
	}
}

// before goes backwards through what lies before (key, seq), with rows as they are kept.
func (s *set) before(key, seq int64) iter.Seq[*rec] {
	return func(yield func(*rec) bool) {
		at := entry{key: key, seq: seq}
		for c := min(s.chunkOf(at), len(s.chunks)-1); c >= 0; c-- {
			for _, e := range slices.Backward(s.chunks[c]) {
				if e.less(at) && !yield(e.r) {
					return
				}
			}
		}
	}
}
