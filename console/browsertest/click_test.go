package browsertest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func css(s string) chromedp.CSS { return chromedp.CSS(s) }

func (b *tab) click(sel string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(css(sel)), chromedp.Click(css(sel)))
}

func (b *tab) press(keys string, mods ...kb.Modifier) {
	b.t.Helper()
	var opts []chromedp.KeyOption
	if len(mods) > 0 {
		opts = append(opts, chromedp.KeyModifiers(mods...))
	}
	b.do(chromedp.KeyEvent(keys, opts...))
}

func has(sel, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))`, sel, text)
}

func (w *world) waiters(key string) (ids []string) {
	w.t.Helper()
	for _, i := range must[[]syncqueue.Item](w.t)(w.queue.List(context.Background(), syncqueue.Key{Kind: "vm", ID: key})) {
		if i.Since.IsZero() {
			ids = append(ids, i.Content)
		}
	}
	return ids
}

func TestClick(t *testing.T) {
	w := newWorld(t, nil)
	b := browse(t, w.url)
	use := func(t *testing.T) { b.t, w.t = t, t }

	t.Run("console-41 a row appears and goes on by itself", func(t *testing.T) {
		use(t)
		b.open(w.url + "jobs?state=all")
		b.do(chromedp.Evaluate[chromedp.Void](`window.stayed = true`))
		j := w.submit("vm.deploy", work{Name: "live-1", More: map[string]string{"offering": "small"}})
		row := "#j-" + j.ID
		b.until(fmt.Sprintf(`document.querySelector(%q)`, row))
		b.until(has(row, "running"))
		w.let("live-1", 2)
		b.until(fmt.Sprintf(`document.querySelector(%q)?.value >= 40`, row+" progress"))
		b.shot("row-while-it-runs")
		w.let("live-1", 3)
		b.until(has(row, "succeeded"))
		if !eval[bool](b, `window.stayed === true`) {
			t.Error("the page was loaded anew")
		}
	})

	t.Run("console-42 a job's timeline while it runs", func(t *testing.T) {
		use(t)
		b.open(w.url + "jobs?kind=vm.deploy")
		j := w.submit("vm.deploy", work{Name: "web-3", More: map[string]string{"offering": "large"}})
		b.click("#j-" + j.ID + " a.open")
		b.until(has("#timeline", "run 1 on ms1"))
		w.let("web-3", 2)
		b.until(has("#timeline .w-step", "define"))
		width := `parseFloat(document.querySelector("#timeline li[data-open].w-step .bar").getAttribute("width"))`
		was := eval[float64](b, width)
		b.until(fmt.Sprintf(`%s > %f`, width, was)) // it grows
		b.until(has(".json", "large"))
		b.both("timeline-while-it-runs")
		w.let("web-3", 3)
		b.until(has("#lead", "succeeded") + ` && ` + has("h2", "Result"))
		b.until(has("#timeline .w-step", "record"))
		b.both("timeline-done")
		b.do(chromedp.NavigateBack())
		b.until(`location.search === "?kind=vm.deploy" && document.getElementById("tabs")`)
	})

	t.Run("console-43 reorder", func(t *testing.T) { use(t); reorder(t, w, b) })

	t.Run("console-44 pause, resume, cancel one that waits", func(t *testing.T) {
		use(t)
		h := w.submit("vm.reboot", work{Name: "db-1"})
		first, second := w.submit("vm.reboot", work{Name: "db-1"}), w.submit("vm.reboot", work{Name: "db-1"})
		b.open(w.url + "queues/vm/db-1")
		b.click(`#verbs form[data-verb=pause] button`)
		b.until(has("#paused", "nothing new starts"))
		w.let("db-1", 2)
		w.reaches(h.ID, job.Succeeded)
		b.until(`document.querySelectorAll("#waiting li").length === 2 && !document.querySelector("#holding li")`)
		b.both("queue-paused")
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector('[data-job="%s"] form[data-verb=cancel] button').click()`, second.ID)))
		b.until(`document.getElementById("ask").open`)
		b.shot("dialog")
		b.click(`#ask button[value=yes]`)
		w.reaches(second.ID, job.Cancelled)
		b.until(`document.querySelectorAll("#waiting li").length === 1`)
		b.click(`#verbs form[data-verb=resume] button`)
		w.reaches(first.ID, job.Running)
		b.until(`!document.getElementById("paused") && document.querySelector("#holding li")`)
		w.let("db-1", 2)
		w.reaches(first.ID, job.Succeeded)
	})

	t.Run("console-45 cancel what runs", func(t *testing.T) {
		use(t)
		j := w.submit("vm.deploy", work{Name: "mail-1"})
		w.reaches(j.ID, job.Running)
		b.open(w.url + "jobs/" + j.ID)
		b.click(`#verbs form[data-verb=cancel] button`)
		b.until(`document.getElementById("ask").open`)
		b.click(`#ask button[value=yes]`)
		b.until(has("#lead", "cancelled"))
		w.reaches(j.ID, job.Cancelled)
		late := w.submit("vm.deploy", work{Name: "mail-2"})
		w.reaches(late.ID, job.Running)
		b.open(w.url + "jobs/" + late.ID)
		b.click(`#verbs form[data-verb=cancel] button`)
		b.until(`document.getElementById("ask").open`)
		w.let("mail-2", 5)
		w.reaches(late.ID, job.Succeeded)
		b.click(`#ask button[value=yes]`)
		b.until(has(".toast", "succeeded"))
	})

	t.Run("console-46 keyboard", func(t *testing.T) { use(t); keyboard(t, w, b) })
	t.Run("console-48 a node goes down", func(t *testing.T) {
		use(t)
		crash := w.otherNode("ms2", 2*time.Second)
		b.open(w.url + "members")
		b.until(has("#m-ms2", "up"))
		b.shot("nodes-up")
		crash()
		b.until(has("#m-ms2", "down"))
		if shape := eval[string](b, `document.querySelector("#m-ms2 use").getAttribute("href")`); shape != "#i-down" {
			t.Errorf("its shape is %s", shape)
		}
		b.both("nodes-one-down")
		b.open(w.url)
		b.until(has(".attention", "ms2"))
		b.both("overview-node-down")
	})
	t.Run("console-48 members, tasks and hosts", func(t *testing.T) { use(t); nodesAndTasks(t) })
	t.Run("console-49 theme", func(t *testing.T) { use(t); themes(t, w, b) })
	t.Run("console-51 what looks like markup", func(t *testing.T) {
		use(t)
		const evil = `<img src=x onerror="window.pwned=1">`
		j := w.submit("vm.reboot", work{Name: evil, Fail: evil, More: map[string]string{evil: "</script><script>window.pwned=1</script>"}}, func(r *job.Request) {
			r.Identity = map[string]string{evil: evil}
		})
		w.reaches(j.ID, job.Failed)
		for _, path := range []string{"jobs/" + j.ID, "jobs?state=failed", "", "queues/vm/" + url.PathEscape(evil), "jobs?q=" + url.QueryEscape(evil)} {
			b.open(w.url + path)
			if eval[bool](b, `Boolean(window.pwned) || document.querySelector("img") !== null`) {
				t.Errorf("%s: it ran, or is an element", path)
			}
			b.until(has("main, input", "onerror") + ` || document.querySelector("#q")?.value.includes("onerror")`)
		}
	})
	t.Run("console-47 the stream is lost", func(t *testing.T) {
		use(t)
		b.open(w.url + "jobs?state=all")
		addr := strings.TrimSuffix(strings.TrimPrefix(w.url, "http://"), "/console/")
		w.server.Close()
		b.until(`!document.getElementById("banner").hidden && document.body.classList.contains("stale")`)
		b.shot("stream-lost")
		var l net.Listener
		w.until("the port is free", func() (is bool) { var err error; l, err = net.Listen("tcp", addr); return err == nil })
		w.serve(l)
		j := w.submit("vm.deploy", work{Name: "after"})
		b.until(`document.getElementById("banner").hidden && document.getElementById("live").dataset.state === "live"`)
		b.until(has("#j-"+j.ID, "running"))
		w.let("after", 5)
		b.mu.Lock()
		b.bad = nil // the lost connection is on the page's own console
		b.mu.Unlock()
	})
}

func reorder(t *testing.T, w *world, b *tab) {
	w.submit("vm.reboot", work{Name: "web-1"})
	a, c := w.submit("vm.reboot", work{Name: "web-1"}).ID, w.submit("vm.deploy", work{Name: "web-1"}).ID
	b.size(1280, 800)
	b.open(w.url + "queues/vm/web-1")
	order := func(ids ...string) {
		t.Helper()
		w.until("the line is in that order", func() bool { return slices.Equal(w.waiters("web-1"), ids) })
		b.until(fmt.Sprintf(`[...document.querySelectorAll("#waiting li")].map(e => e.dataset.job).join() === %q`, strings.Join(ids, ",")))
	}
	order(a, c)
	b.shot("line-before")
	item := func(id string) chromedp.CSS { return css(fmt.Sprintf(`#waiting li[data-job="%s"] .what`, id)) }
	b.do(chromedp.DragAndDrop(item(c), item(a)))
	order(c, a)
	b.both("line-reordered")
	b.click(`.toast [data-undo]`)
	order(a, c)
	b.press("j")
	b.press("j")
	b.press("j")
	b.until(fmt.Sprintf(`document.querySelector("li.here")?.dataset.job === %q`, c))
	b.press(kb.ArrowUp, kb.ModifierAlt)
	order(c, a)
	w.let("web-1", 100)
	w.reaches(c, job.Succeeded)
	w.reaches(a, job.Succeeded)
}

func keyboard(t *testing.T, w *world, b *tab) {
	focus := func() {
		t.Helper()
		if !eval[bool](b, `(() => { const e = document.activeElement; if (!e || e === document.body || e.id === "main") return true; const s = getComputedStyle(e); return s.outlineStyle !== "none" || e.matches("input"); })()`) {
			t.Errorf("the focus is not to be seen on %s", eval[string](b, `document.activeElement.outerHTML.slice(0, 120)`))
		}
	}
	j := w.submit("vm.deploy", work{Name: "key-1"})
	w.reaches(j.ID, job.Running)
	b.open(w.url)
	b.press("g")
	b.press("j")
	b.until(`location.pathname.endsWith("/jobs") && document.getElementById("live")?.dataset.state === "live"`)
	b.press("/")
	b.until(`document.activeElement.id === "q"`)
	focus()
	b.do(chromedp.Evaluate[chromedp.Void](`document.getElementById("q").value = ""`)) // the driver types the / as well; a browser does not
	b.press("vm.dtgcx?")                                                              // letters in a field do nothing else
	b.until(`document.getElementById("q").value === "vm.dtgcx?" && !document.querySelector("dialog[open]")`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.getElementById("q").value = ""`))
	b.press("key-1" + kb.Enter)
	b.until(`location.search.includes("key-1") && document.getElementById("live")?.dataset.state === "live"`)
	b.press("j")
	b.until(fmt.Sprintf(`document.querySelector("tr.here")?.dataset.job === %q`, j.ID))
	focus()
	b.press(kb.Enter)
	b.until(`document.getElementById("job") && document.getElementById("live")?.dataset.state === "live"`)
	b.press("c")
	b.until(`document.getElementById("ask").open`)
	b.press(kb.Tab)
	b.until(`document.activeElement.value === "yes"`)
	focus()
	b.press(kb.Enter)
	w.reaches(j.ID, job.Cancelled)
	b.until(has("#lead", "cancelled"))
	b.press("?")
	b.until(`document.getElementById("keys").open`)
	b.shot("keyboard-help")
	b.press(kb.Escape)
	b.until(`!document.getElementById("keys").open`)
	b.press(kb.Escape)
	b.until(`location.search.includes("key-1")`)
}

// contrast gives the texts whose contrast with what is behind them is too low.
const contrast = `(() => {
  const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (s) => { const m = s.match(/[\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] === undefined ? 1 : m[3] }; };
  const out = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.nodeValue.trim()) || !e.getClientRects().length || e.closest("svg, noscript, [disabled], .sr, .changed")) continue;
    let back = e, bg = null;
    while (back && !bg) { const p = parse(getComputedStyle(back).backgroundColor); if (p.a > 0.99) bg = p.c; back = back.parentElement; }
    const [hi, lo] = [lum(parse(getComputedStyle(e).color).c), lum(bg || [255, 255, 255])].sort((x, y) => y - x);
    const ratio = (hi + 0.05) / (lo + 0.05);
    if (ratio < 4.5) out.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 40));
  }
  return out;
})()`

func themes(t *testing.T, w *world, b *tab) {
	background := `getComputedStyle(document.documentElement).backgroundColor`
	j := w.submit("vm.deploy", work{Name: "look-1", Fail: "define"})
	w.let("look-1", 5)
	w.reaches(j.ID, job.Failed)
	b.scheme(false)
	b.open(w.url)
	light := eval[string](b, background)
	b.scheme(true)
	b.until(background + ` !== "` + light + `"`)
	dark := eval[string](b, background)
	for _, theme := range []string{"light", "dark"} {
		b.press("t") // auto, then light, then dark
		b.until(fmt.Sprintf(`document.getElementById("theme").textContent.toLowerCase() === %q`, theme))
		want := map[string]string{"light": light, "dark": dark}[theme]
		b.until(background + ` === "` + want + `"`)
		for _, path := range []string{"", "jobs?state=all", "jobs/" + j.ID, "queues", "members", "events"} {
			b.open(w.url + path) // and a reload keeps it
			b.until(background + ` === "` + want + `"`)
			if low := eval[[]string](b, contrast); len(low) > 0 {
				t.Errorf("%s, %s: contrast under 4.5: %q", theme, path, low)
			}
			b.size(320, 640)
			if over := eval[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
				t.Errorf("%s: %d px wider than a window of 320", path, over)
			}
			b.size(1280, 800)
		}
	}
	b.press("t")
}

func TestReadOnlyAndMany(t *testing.T) {
	t.Run("console-50 read-only", func(t *testing.T) {
		w := newWorld(t, func(c *console.Config) { c.ReadOnly = true })
		j := w.submit("vm.deploy", work{Name: "ro-1"})
		w.submit("vm.deploy", work{Name: "ro-1"})
		b := browse(t, w.url)
		for _, path := range []string{"", "jobs", "jobs/" + j.ID, "queues", "queues/vm/ro-1", "members", "events"} {
			b.open(w.url + path)
			b.until(`document.getElementById("readonly")`)
			if n := eval[int](b, `document.querySelectorAll("form[method=post], [data-verb], [data-bulk], [draggable=true]").length`); n > 0 {
				t.Errorf("%s: %d verbs", path, n)
			}
		}
		b.shot("read-only")
	})
	t.Run("console-50 all that match", func(t *testing.T) {
		w := newWorld(t, nil)
		var rs []job.Request
		for i := range 250 {
			rs = append(rs, job.Request{Kind: "vm.deploy", Args: work{Name: fmt.Sprint("m", i), Fail: "place"}})
		}
		must[[]*job.Job](t)(w.jobs.SubmitMany(context.Background(), rs))
		failed := func() int {
			js, _, err := w.jobs.Page(context.Background(), job.Query{States: []job.State{job.Failed}, Limit: 500})
			if err != nil {
				t.Fatal(err)
			}
			return len(js)
		}
		w.until("all have failed", func() bool { return failed() == 250 })
		b := browse(t, w.url)
		b.open(w.url + "jobs?state=failed&created_before=" + url.QueryEscape(time.Now().Add(time.Second).UTC().Format(time.RFC3339)))
		b.click("#all")
		b.click("#pick-all")
		b.until(has("#picked", "250"))
		b.shot("all-that-match")
		b.do(chromedp.Evaluate[chromedp.Void](`window.most = 0; setInterval(() => { const p = document.getElementById("bulk-progress"); if (!p.hidden) window.most = Math.max(window.most, p.value); }, 20)`))
		b.click(`[data-bulk=retry]`)
		b.until(`document.getElementById("ask").open`)
		b.do(chromedp.SendKeys(css(`#ask input[name=confirm]`), "250"))
		b.click(`#ask button[value=yes]`)
		b.until(has(".toast", "250 done"))
		w.until("all were retried, and have failed again", func() bool { return failed() == 500 })
		b.open(w.url + "jobs?state=scheduled")
		b.until(has(".empty", "No jobs here"))
	})
	t.Run("console-50 all that match are cancelled", func(t *testing.T) {
		w := newWorld(t, nil)
		var rs []job.Request
		for i := range 250 {
			rs = append(rs, job.Request{Kind: "vm.reboot", Args: work{Name: fmt.Sprint("m", i)}, RunAt: time.Now().Add(time.Hour)})
		}
		must[[]*job.Job](t)(w.jobs.SubmitMany(context.Background(), rs))
		b := browse(t, w.url)
		b.open(w.url + "jobs?state=scheduled")
		b.click("#all")
		b.click("#pick-all")
		b.until(has("#picked", "250"))
		b.click(`[data-bulk=cancel]`)
		b.until(`document.getElementById("ask").open`)
		b.do(chromedp.SendKeys(css(`#ask input[name=confirm]`), "250"))
		b.click(`#ask button[value=yes]`)
		b.until(has(".toast", "250 done"))
		b.until(has(".empty", "No jobs here"))
	})
}
