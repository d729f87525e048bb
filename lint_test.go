package drover_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/drover-cloud/drover"

// arrows is which of our packages a package may import; a trailing /... stands for the package and all below it.
// "any" is everything. A package that is missing here has no place in the architecture yet.
var arrows = map[string][]string{
	".":                               {},
	"store":                           {},
	"store/...":                       {"any"},
	"lease":                           {".", "store"},
	"syncqueue":                       {".", "store"},
	"job":                             {".", "store", "lease", "syncqueue"},
	"dispatch":                        {".", "store", "syncqueue", "job"},
	"flow":                            {".", "store", "job"},
	"console":                         {".", "store", "lease", "syncqueue", "job", "flow", "periodic", "ring", "bus"},
	"periodic":                        {"."},
	"servicegroup":                    {"."},
	"servicegroup/...":                {".", "servicegroup", "servicegroup/internal/stored"},
	"ring":                            {},
	"agent":                           {".", "store"},
	"bus":                             {".", "store", "ring"},
	"bus/memory":                      {".", "bus"},
	"bus/nats":                        {".", "bus", "bus/internal/broker"},
	"bus/internal/broker":             {".", "bus"},
	"bus/amqp":                        {".", "bus", "bus/internal/broker"},
	"conductor":                       {".", "store", "bus", "job", "lease", "syncqueue", "servicegroup", "hypervisor/tracker"},
	"hypervisor":                      {"."},
	"hypervisor/sim":                  {".", "hypervisor"},
	"hypervisor/libvirt":              {".", "hypervisor", "hypervisor/libvirt/internal/rpc", "internal/chance", "internal/fair"},
	"hypervisor/libvirt/internal/rpc": {"."},
	"ha":                              {".", "store", "lease"},
	"hypervisor/tracker":              {".", "store", "hypervisor"},
	"testkit/...":                     {"any"},
	"internal/testkit/...":            {"any"},
	"internal/chaos/...":              {"any"},
	"internal/jobjson":                {"job", "syncqueue", "lease", "periodic"},
	"internal/...":                    {"."}, // leaves, for anyone
	"examples/...":                    {"any"},
	"cmd/...":                         {"any"},
}

// drivers are packages that no component imports: hosts choose them.
var drivers = []string{"store/...", "testkit/...", "internal/testkit/...", "examples/...", "cmd/..."}

// outside says who may import modules that must not reach every user.
var outside = map[string][]string{
	"github.com/uptrace/bun":         {"store/...", "servicegroup/db", "examples/...", "cmd/...", "testkit/...", "internal/testkit/...", "internal/chaos/..."},
	"github.com/jackc/pgx":           {"store/...", "examples/...", "cmd/...", "testkit/...", "internal/testkit/...", "internal/chaos/..."},
	"github.com/go-zookeeper/zk":     {"servicegroup/zk", "internal/testkit/..."},
	"github.com/bradfitz/gomemcache": {"servicegroup/memcached", "internal/testkit/..."},
	"modernc.org/sqlite":             {"store/...", "examples/...", "cmd/...", "testkit/...", "internal/testkit/...", "internal/chaos/..."},
	"github.com/rabbitmq/amqp091-go": {"bus/amqp", "internal/testkit/..."},
	"github.com/nats-io/nats.go":     {"bus/nats"},
}

// exempt are packages with a real clock or goroutines of their own, each with the reason.
var exempt = map[string]string{
	"internal/testkit/...": "starts and awaits real servers, and drives virtual time from outside",
	"testkit/...":          "the scheduler and its checks are the world that Env stands for",
	"internal/chaos/...":   "a command that runs processes and real servers in real time",
	"internal/spec/...":    "a command of the build; it runs beside no component",
	"examples/...":         "host code: main packages own their clock and goroutines",
	"cmd/...":              "host code: main packages own their clock and goroutines",
}

func under(pattern, pkg string) bool {
	base, deep := strings.CutSuffix(pattern, "/...")
	return pkg == base || deep && strings.HasPrefix(pkg, base+"/")
}

func anyUnder(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return under(p, pkg) })
}

// rule is the entry of m that fits pkg best.
func rule[V any](m map[string]V, pkg string) (v V, found bool) {
	if v, found = m[pkg]; found {
		return v, true
	}
	for at := pkg; ; at = path.Dir(at) {
		if v, found = m[at+"/..."]; found || at == "." {
			return v, found
		}
	}
}

// source is a file of the module outside the root package's tests.
type source struct {
	pkg, file string
	test      bool
	ast       *ast.File
	fset      *token.FileSet
}

func sources(t *testing.T) (out []source) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			if name != "." && (nested == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		out = append(out, source{path.Dir(name), name, strings.HasSuffix(name, "_test.go"), f, fset})
		return nil
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("%d files parsed: %v", len(out), err)
	}
	return out
}

// imports maps the import paths of f to their names in f.
func (s source) imports() map[string]string {
	m := map[string]string{}
	for _, spec := range s.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if name == "v2" {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		m[p] = name
	}
	return m
}

var forbidden = map[string][]string{
	"time": {"Now", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Since", "Until"},
}

// effects lists the uses of real time, global randomness and bare go in s.
func (s source) effects() (found []string) {
	imports := s.imports()
	say := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s: %s", s.fset.Position(n.Pos()), what))
	}
	if _, ok := imports["math/rand"]; ok {
		say(s.ast, "imports math/rand: use Env.Rand")
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n, "bare go: use Env.Go")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			if name, ok := imports["time"]; ok && x.Name == name && slices.Contains(forbidden["time"], n.Sel.Name) {
				say(n, "time."+n.Sel.Name+": use Env.Clock")
			}
			if name, ok := imports["math/rand/v2"]; ok && x.Name == name && isGlobalRand(n.Sel.Name) {
				say(n, "global rand."+n.Sel.Name+": use Env.Rand")
			}
		}
		return true
	})
	return found
}

// isGlobalRand: constructors and types of math/rand/v2 are fine, its other functions draw from the global source.
func isGlobalRand(name string) bool {
	return !slices.Contains([]string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}, name)
}

func TestSpecLint(t *testing.T) {
	all := sources(t)
	t.Run("service-48 effects", func(t *testing.T) {
		for _, s := range all {
			_, skip := rule(exempt, s.pkg)
			if s.pkg == "." || s.test || skip {
				continue
			}
			for _, e := range s.effects() {
				t.Error(e)
			}
		}
	})
	t.Run("service-48 the rules bite", func(t *testing.T) {
		const bad = "package p\nimport (\n\"time\"\nr \"math/rand/v2\"\nold \"math/rand\"\n)\nfunc f() { go f(); time.Sleep(1); _ = time.Second; _ = r.IntN(2); _ = r.New(r.NewPCG(1, 2)); old.Int() }\n"
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "bad.go", bad, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := (source{ast: f, fset: fset}).effects(); len(got) != 4 {
			t.Errorf("found %q, want go, Sleep, IntN and the import of math/rand", got)
		}
	})
	t.Run("service-48 arrows", func(t *testing.T) {
		for _, s := range all {
			checkArrows(t, s)
		}
	})
}

func checkArrows(t *testing.T, s source) {
	allowed, known := rule(arrows, s.pkg)
	if !known {
		t.Errorf("%s: package %s has no arrows: give it a line in the table above", s.file, s.pkg)
		return
	}
	if s.test {
		return // tests may import testkit and any driver; no cycle compiles
	}
	for imp := range s.imports() {
		for mod, who := range outside {
			if (imp == mod || strings.HasPrefix(imp, mod+"/")) && !anyUnder(who, s.pkg) {
				t.Errorf("%s imports %s", s.file, imp)
			}
		}
		ours, ok := strings.CutPrefix(imp+"/", module+"/")
		if !ok {
			continue
		}
		ours = path.Clean(ours)
		if ours == s.pkg || strings.HasPrefix(ours, "internal/") && !under("internal/testkit/...", ours) || // a leaf
			slices.Contains(allowed, "any") && (anyUnder([]string{"testkit/...", "internal/testkit/...", "internal/chaos/...", "examples/..."}, s.pkg) || !anyUnder([]string{"testkit/...", "internal/testkit/..."}, ours)) {
			continue
		}
		if !anyUnder(allowed, ours) || s.pkg != "." && ours != "store" && anyUnder(drivers, ours) {
			t.Errorf("%s imports %s; %s may import %v", s.file, imp, s.pkg, allowed)
		}
	}
}
