// Command spec lists the acceptance cases of the specification and which of them have a test. These forms count:
//
//   - a string in a test file, or in a conformance suite under testkit, that begins with its id, or with several, separated by
//     spaces: t.Run("job-07 custom id", …), t.Run("lease-01 job-83 holder changes", …);
//   - a line "// spec: <ids>" straight above a test or fuzz function, whose seed corpus is a test;
//   - a line "spec: <ids>" in a *.mutant file, whose test is TestMutants/<ids>_<mutant>.
//
// With -run it runs the tests and tells which pass.
package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed ids.txt
var table string

// id is one acceptance case.
type id struct {
	name, page, marks string
	milestone         int
	where             string // the first file that tests it
	functions         []string
	status            string // with -run: pass, fail, skip
}

func main() {
	run := flag.Bool("run", false, "run the tests, and tell which cases pass")
	milestone := flag.Int("milestone", 0, "only cases due at this milestone or earlier (0 = all)")
	flag.Parse()
	if err := list(os.Stdout, ".", *milestone, *run); err != nil {
		fmt.Fprintln(os.Stderr, "spec:", err)
		os.Exit(1)
	}
}

func list(w io.Writer, root string, milestone int, run bool) error {
	ids, err := parse(table)
	if err != nil {
		return err
	}
	if err := find(root, ids); err != nil {
		return err
	}
	if run {
		if err := results(root, ids); err != nil {
			return err
		}
	}
	ids = slices.DeleteFunc(ids, func(i *id) bool { return milestone > 0 && i.milestone > milestone })
	print(w, ids, run)
	return nil
}

func parse(s string) (ids []*id, err error) {
	for n, line := range strings.Split(s, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(f) != 4 {
			return nil, fmt.Errorf("ids.txt:%d: want four fields", n+1)
		}
		m, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("ids.txt:%d: milestone: %w", n+1, err)
		}
		ids = append(ids, &id{name: f[0], page: f[1], milestone: m, marks: f[3]})
	}
	return ids, nil
}

const name = `[a-z]+-r?[0-9]{2,3}`

var (
	literal = regexp.MustCompile("[\"`](" + name + "(?: " + name + ")*)[ \"`:/,]")
	comment = regexp.MustCompile(`(?m)^// spec: (.+)\nfunc ((?:Test|Fuzz)\w*)\(`)
	header  = regexp.MustCompile(`(?m)^spec: (.+)$`)
)

// find notes for each id the first file with a test of that name.
func find(root string, ids []*id) error {
	byName := map[string]*id{}
	for _, i := range ids {
		byName[i.name] = i
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		path = filepath.ToSlash(path)
		mutant := strings.HasSuffix(path, ".mutant") && !strings.Contains(path, "testdata/")
		suite := strings.Contains(path, "testkit/") && strings.HasSuffix(path, ".go")
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") && !suite && !mutant {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		note := func(names []byte, function string) {
			for _, n := range strings.Fields(string(names)) {
				i := byName[n]
				if i == nil {
					continue
				}
				if i.where == "" {
					i.where = path
				}
				if function != "" {
					i.functions = append(i.functions, function)
				}
			}
		}
		if mutant {
			for _, m := range header.FindAllSubmatch(b, -1) {
				note(m[1], "")
			}
			return nil
		}
		for _, m := range literal.FindAllSubmatch(b, -1) {
			note(m[1], "")
		}
		for _, m := range comment.FindAllSubmatch(b, -1) {
			note(m[1], string(m[2]))
		}
		return nil
	})
}

// named are the ids whose case a test of this name is.
func named(test string, byName map[string]*id, byFunction map[string][]*id) (ids []*id) {
	for part := range strings.SplitSeq(test, "/") {
		ids = append(ids, byFunction[part]...)
		for word := range strings.SplitSeq(part, "_") {
			i := byName[strings.TrimRight(word, ",:")]
			if i == nil {
				break
			}
			ids = append(ids, i)
		}
	}
	return ids
}

// results runs the tests that name an id; one failing subtest fails the id, one skipped marks it.
func results(root string, ids []*id) error {
	byName, byFunction := map[string]*id{}, map[string][]*id{}
	for _, i := range ids {
		byName[i.name] = i
		for _, f := range i.functions {
			byFunction[f] = append(byFunction[f], i)
		}
	}
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	rank := map[string]int{"": 0, "pass": 1, "skip": 2, "fail": 3}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Test string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || rank[e.Action] == 0 {
			continue
		}
		for _, i := range named(e.Test, byName, byFunction) {
			if rank[e.Action] > rank[i.status] {
				i.status = e.Action
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return nil
}

func print(w io.Writer, ids []*id, run bool) {
	var with, without int
	counts := map[string]int{}
	for _, i := range ids {
		if i.where == "" {
			without++
			continue
		}
		with++
		counts[i.status]++
		status := ""
		if run {
			status = " " + i.status
		}
		fmt.Fprintf(w, "%-14s milestone %d  %s%s\n", i.name, i.milestone, i.where, status)
	}
	fmt.Fprintln(w, "\nwithout a test, by milestone:")
	for m := 1; m <= 8; m++ {
		var names []string
		for _, i := range ids {
			if i.where == "" && i.milestone == m {
				names = append(names, i.name)
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(w, "  %d: %s\n", m, ranges(names))
		}
	}
	if run {
		fmt.Fprintf(w, "\npass %d, fail %d, skip %d, did not run %d\n", counts["pass"], counts["fail"], counts["skip"], counts[""])
	}
	for m := 1; m <= 8; m++ {
		var has, all int
		for _, i := range ids {
			if i.milestone == m {
				all++
				if i.where != "" {
					has++
				}
			}
		}
		if all > 0 {
			fmt.Fprintf(w, "milestone %d: %d of %d\n", m, has, all)
		}
	}
	fmt.Fprintf(w, "%d acceptance cases: %d with a test, %d without\n", len(ids), with, without)
}

// ranges joins job-01, job-02, job-03 to job-01…03.
func ranges(names []string) string {
	var out []string
	for i := 0; i < len(names); {
		j := i
		for j+1 < len(names) && follows(names[j], names[j+1]) {
			j++
		}
		if j > i+1 {
			out = append(out, names[i]+"…"+names[j][strings.LastIndexByte(names[j], '-')+1:])
		} else {
			out = append(out, names[i:j+1]...)
		}
		i = j + 1
	}
	return strings.Join(out, " ")
}

func follows(a, b string) bool {
	i := strings.LastIndexByte(a, '-') + 1
	if !strings.HasPrefix(b, a[:i]) {
		return false
	}
	x, err1 := strconv.Atoi(strings.TrimPrefix(a[i:], "r"))
	y, err2 := strconv.Atoi(strings.TrimPrefix(b[i:], "r"))
	return err1 == nil && err2 == nil && y == x+1
}
