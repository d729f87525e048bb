package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/drover-cloud/drover/internal/testkit"
)

// shots is where screenshots are kept.
const shots = "shots"

func chromium(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("DROVER_CHROMIUM"); path != "" {
		return path
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		testkit.Missing(t, "chromium", "no browser (apt-get install chromium, or set DROVER_CHROMIUM)")
	}
	return path
}

// tab is a tab of a browser that keeps what went wrong in it.
type tab struct {
	t   testing.TB
	ctx context.Context
	mu  sync.Mutex
	bad []string
	out []string // requests to elsewhere
}

// browse opens a browser of the test's own.
func browse(t testing.TB, origin string) *tab {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.WindowSize(1280, 800), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("enable-precise-memory-info", true))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("browser: %v", err)
	}
	if err := chromedp.Listen(ctx, func(ev any) { b.hear(ev, origin) }); err != nil {
		t.Fatalf("browser: %v", err)
	}
	call(b, network.Enable, network.EnableParams{})
	t.Cleanup(func() {
		if t.Failed() {
			b.shot("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
		}
		cancel()
		stop()
		for _, s := range b.bad {
			t.Errorf("page: %s", s)
		}
		for _, s := range b.out {
			t.Errorf("request to elsewhere: %s", s)
		}
	})
	return b
}

func (b *tab) hear(ev any, origin string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if x := ev.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.bad = append(b.bad, text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == "error" {
			b.bad = append(b.bad, fmt.Sprint(ev.Args))
		}
	case *network.EventRequestWillBeSent:
		if u := ev.Request.URL; !strings.HasPrefix(u, origin) && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			b.out = append(b.out, u)
		}
	}
}

// patience is what a loaded machine may need.
const patience = 60 * time.Second

// do runs actions.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v\npage says: %v", err, b.bad)
	}
}

func call[P, R any](b *tab, cmd cdp.Command[P, R], p P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, cmd, p); err != nil {
		b.t.Fatalf("browser: %s: %v", cmd.Method, err)
	}
}

// eval gives what an expression of the page is.
func eval[T any](b *tab, expr string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("browser: %s: %v", expr, err)
	}
	return v
}

// until waits for an expression of the page to be true; while it navigates there is none.
func (b *tab) until(expr string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience/2)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expr+")"))
		if err == nil && is {
			return
		}
		last = err
		time.Sleep(30 * time.Millisecond)
	}
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 1500)`))
	b.t.Fatalf("never true in the page: %s (%v)\n%s\npage says: %v", expr, last, text, b.bad)
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	b.until(`document.getElementById("live")?.dataset.state === "live"`)
}

// size sets the window: phones have a narrow one.
func (b *tab) size(w, h int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: w, Height: h, DeviceScaleFactor: 1, Mobile: w < 600})
}

func (b *tab) scheme(dark bool) {
	b.t.Helper()
	v := "light"
	if dark {
		v = "dark"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v}}})
}

// shot keeps a picture of the page.
func (b *tab) shot(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Logf("no picture %s: %v", name, err)
		return
	}
	if err := os.MkdirAll(shots, 0o755); err == nil {
		err = os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644)
		if err != nil {
			b.t.Logf("no picture %s: %v", name, err)
		}
	}
}

// both keeps a wide and a narrow picture.
func (b *tab) both(name string) {
	b.t.Helper()
	b.size(390, 844)
	b.shot(name + "-390")
	b.size(1280, 800)
	b.shot(name + "-1280")
}
