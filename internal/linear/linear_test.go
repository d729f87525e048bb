package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// written reads "submit a 1 4, claim a@5 2 6": what, job, epoch, call, return; jobs are of key k.
func written(t *testing.T, limit int, text string) *history {
	t.Helper()
	h := newHistory()
	for _, part := range strings.Split(text, ", ") {
		o := op{Key: "k", Limit: limit}
		var who string
		if _, err := fmt.Sscan(part, &o.What, &who, &o.Call, &o.Return); err != nil {
			t.Fatalf("%q: %v", part, err)
		}
		o.Job, who, _ = strings.Cut(who, "@")
		_, _ = fmt.Sscan(who, &o.Epoch)
		h.add(o)
	}
	return h
}

func TestModels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		limit int
		text  string
		good  bool
	}{
		{"a life", 1, "submit a 1 2, claim a@3 3 4, write a@3 5 6, done a@3 7 0, read a@3 9 9", true},
		{"lost and run again", 1, "submit a 1 2, claim a@3 3 4, claim a@4 5 6, done a@4 7 0, read a@4 9 9", true},
		{"ended by a sweep", 1, "submit a 1 2, claim a@3 3 4, write a@3 5 6, done a@4 7 0, read a@3 9 9", true},
		{"job-78 claimed twice", 1, "submit a 1 2, claim a@3 3 4, claim a@3 5 6, done a@3 7 0, read a@3 9 9", false},
		{"job-78 a stale result", 1, "submit a 1 2, claim a@3 3 4, claim a@4 5 6, done a@3 7 0, read a@3 9 9", false},
		{"job-78 the wrong result", 1, "submit a 1 2, claim a@3 3 4, claim a@4 5 6, done a@4 7 0, read a@3 9 9", false},
		{"job-78 a stale write", 1, "submit a 1 2, claim a@3 3 4, claim a@4 5 6, write a@3 7 8, done a@4 8 0, read a@4 9 9", false},
		{"a write that may have been in time", 1, "submit a 1 2, claim a@3 3 4, claim a@4 5 6, write a@3 4 8, done a@4 8 0, read a@4 9 9", true},
		{"ended twice", 1, "submit a 1 2, claim a@3 3 4, done a@3 5 0, done a@3 7 0, read a@3 9 9", false},
		{"never ended", 1, "submit a 1 2, claim a@3 3 4, read a@3 9 9", false},
		{"claimed after its end", 1, "submit a 1 2, claim a@3 3 4, done a@3 5 6, claim a@4 7 8, read a@4 9 9", false},
		{"in line", 1, "submit a 1 2, submit b 3 4, claim a@1 5 6, done a@1 7 0, claim b@2 8 9, done b@2 10 0, read a@1 11 11, read b@2 11 11", true},
		{"out of turn", 1, "submit a 1 2, submit b 3 4, claim b@1 5 6, done b@1 7 0, claim a@2 8 9, done a@2 10 0, read a@2 11 11, read b@1 11 11", false},
		{"submitted at once, in any order", 1, "submit a 1 4, submit b 3 4, claim b@1 5 6, done b@1 7 0, claim a@2 8 9, done a@2 10 0, read a@2 11 11, read b@1 11 11", true},
		{"two with one turn", 1, "submit a 1 2, submit b 3 4, claim a@1 5 6, claim b@2 7 8, done a@1 9 0, done b@2 10 0, read a@1 11 11, read b@2 11 11", false},
		{"two with two turns", 2, "submit a 1 2, submit b 3 4, claim b@1 5 6, claim a@2 7 8, done a@2 9 0, done b@1 10 0, read a@2 11 11, read b@1 11 11", true},
		{"three with two turns", 2, "submit a 1 2, submit b 1 2, submit c 1 2, claim a@1 3 4, claim b@2 3 4, claim c@3 3 4, done a@1 9 0, done b@2 9 0, done c@3 9 0", false},
		{"cancelled in line", 1, "submit a 1 2, submit b 3 4, submit c 4 5, claim a@1 6 7, done b@0 8 0, done a@1 9 0, claim c@2 10 11, done c@2 12 0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := written(t, c.limit, c.text).judge(time.Second)
			if len(v.unknown) > 0 || (len(v.bad) == 0) != c.good {
				t.Errorf("%+v", v)
			}
		})
	}
}

// 80 000 operations on 20 000 jobs are judged in a moment.
func TestMany(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for i := range 20_000 {
		for j, what := range []string{"submit", "claim", "done", "read"} {
			at := int64(i)*10 + int64(j)*2
			fmt.Fprintf(&b, "{\"what\":%q,\"job\":\"j%d\",\"key\":\"k%d\",\"limit\":1,\"epoch\":%d,\"call\":%d,\"return\":%d}\n", what, i, i%500, min(j, 1)*(i+1), at, at+1)
		}
	}
	file := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run([]string{file}, &out, &out); code != 0 || !strings.Contains(out.String(), "20000 jobs, 500 keys, 80000 operations: 0 not linearizable, 0 unknown") {
		t.Errorf("%d: %s", code, out.String())
	}
	for _, text := range []string{"", "{", `{"what":"flies","job":"a","call":1}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code := run([]string{file}, &out, &out); code == 0 {
			t.Errorf("%q is good", text)
		}
	}
}
