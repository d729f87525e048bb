package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestForms(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_test.go":  "t.Run(\"job-01 job-02 both\", f)\nt.Run(\"see job-03\", f)\n// spec: job-04\nfunc FuzzIt(f *testing.F) {\n",
		"b.go":       `"job-05 no test"`,
		"c.mutant":   "# job-06\nspec: job-07\n",
		"d_test.go":  "// spec: job-08\n\nfunc TestIt(",
		"testkit.go": `"job-09 no suite"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	byName := map[string]*id{}
	var ids []*id
	for _, n := range []string{"job-01", "job-02", "job-03", "job-04", "job-05", "job-06", "job-07", "job-08", "job-09"} {
		byName[n] = &id{name: n}
		ids = append(ids, byName[n])
	}
	if err := find(dir, ids); err != nil {
		t.Fatal(err)
	}
	for _, i := range ids {
		want := map[string]string{"job-01": "a_test.go", "job-02": "a_test.go", "job-04": "a_test.go", "job-07": "c.mutant"}[i.name]
		if got := filepath.Base(i.where); i.where != "" && got != want || i.where == "" && want != "" {
			t.Errorf("%s: found in %q, want %q", i.name, i.where, want)
		}
	}
	got := named("TestX/job-01_job-02:_both/FuzzIt", byName, map[string][]*id{"FuzzIt": {byName["job-04"]}})
	if len(got) != 3 {
		t.Errorf("%d ids in a name", len(got))
	}
}
