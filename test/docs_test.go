package test

import (
	"errors"
	"fmt"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/lab"
	"nat64d/pool6"
)

// page is one of the project's Markdown files.
type page struct{ path, text string }

// block is a fenced code block of a page and its language.
type block struct {
	at, language, text string
}

// pages returns the README and the pages in docs.
func pages(t *testing.T) []page {
	t.Helper()
	paths, err := filepath.Glob("../docs/*.md")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	var ps []page
	for _, path := range append(paths, "../README.md") {
		ps = append(ps, page{path, read(t, path)})
	}
	return ps
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// blocks returns the code blocks of the pages in any of the languages.
func blocks(t *testing.T, languages ...string) []block {
	t.Helper()
	fence := regexp.MustCompile("(?ms)^( *)```([a-z]+)\n(.*?)^ *```$")
	var bs []block
	for _, p := range pages(t) {
		for _, m := range fence.FindAllStringSubmatchIndex(p.text, -1) {
			line := strings.Count(p.text[:m[0]], "\n") + 1
			indent, language, text := p.text[m[2]:m[3]], p.text[m[4]:m[5]], p.text[m[6]:m[7]]
			if slices.Contains(languages, language) {
				bs = append(bs, block{p.path + ":" + strconv.Itoa(line), language, strings.ReplaceAll("\n"+text, "\n"+indent, "\n")[1:]})
			}
		}
	}
	if len(bs) == 0 {
		t.Fatalf("no page has a block of %v", languages)
	}
	return bs
}

// words returns the words of a simple command without sudo, up to a pipe or a comment.
func words(line string) []string {
	line, _, _ = strings.Cut(line, " #")
	line, _, _ = strings.Cut(line, " |")
	fields := strings.Fields(line)
	if len(fields) > 0 && fields[0] == "sudo" {
		fields = fields[1:]
	}
	return fields
}

// The programs accept every command line in the pages.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	programs, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t, "sh") {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(b.text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", b.at, err, out)
		}
		for line := range strings.Lines(b.text) {
			checkCommand(t, programs, b.at, words(line))
		}
	}
	unit := "../deploy/systemd/nat64d.service"
	execs := regexp.MustCompile(`(?m)^Exec\w+=/usr/local/sbin/(.*)$`).FindAllStringSubmatch(read(t, unit), -1)
	if len(execs) != 2 {
		t.Fatalf("%s has %d commands, want one to start and one to reload", unit, len(execs))
	}
	for _, m := range execs {
		checkCommand(t, programs, unit, words(m[1]))
	}
}

// checkCommand runs a command in a way that only checks its command line.
func checkCommand(t *testing.T, programs programs, at string, args []string) {
	t.Helper()
	if len(args) == 0 {
		return
	}
	want, cmd := []int{0}, exec.Command("true")
	switch args[0] {
	case "make":
		if len(args) < 2 || !strings.Contains(read(t, "../Makefile"), "\n"+args[1]+":") {
			t.Errorf("%s: %v: the Makefile has no such target", at, args)
		}
	case "nat64ctl":
		// 3 means that the command would contact the daemon; help and completion do not.
		want, cmd = []int{0, 3}, exec.Command(programs.nat64ctl, append(args[1:], "--socket", "/nonexistent.sock")...)
	case "nat64d":
		args = slices.DeleteFunc(args[1:], func(a string) bool { return a == "check" || a == "dns64" })
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "/etc/nat64d/", "../config/")
		}
		cmd = exec.Command(programs.nat64d, append([]string{"check"}, args...)...)
	}
	var exit *exec.ExitError
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); !slices.Contains(want, code) {
		t.Errorf("%s: %v: exit code %d: %s", at, args, code, out)
	}
}

// Every configuration in the pages is valid.
func TestDocsConfigurations(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t, "yaml") {
		if _, err := config.Parse(b.at, strings.NewReader(b.text), config.Overrides{}); err != nil {
			t.Error(err)
		}
	}
}

// The pages show the actual output of nat64ctl in the lab, apart from digits and the width of columns. Of a table,
// only the header is compared.
func TestDocsOutput(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, "pool4:\n  - { address: 192.0.2.1, ports: 7000-8000 }\n")
	checkPing(t, l)
	code := 0
	for _, b := range blocks(t, "console") {
		lines := strings.Split(strings.TrimSuffix(b.text, "\n"), "\n")
		for i, line := range lines {
			command, ok := strings.CutPrefix(line, "$ ")
			if !ok {
				continue
			}
			if i+1 == len(lines) {
				t.Fatalf("%s: nothing follows %q", b.at, line)
			}
			if command == "echo $?" {
				if got := strconv.Itoa(code); got != lines[i+1] {
					t.Errorf("%s: the exit code before line %d is %s, the page says %s", b.at, i+1, got, lines[i+1])
				}
				continue
			}
			args := words(command)
			if args[0] != "nat64ctl" {
				t.Fatalf("%s: %q: only nat64ctl is run", b.at, command)
			}
			var out, errs string
			out, errs, code = g.ctl(args[1:]...)
			first, _, _ := strings.Cut(out+errs, "\n")
			if shape(first) != shape(lines[i+1]) {
				t.Errorf("%s: %s answers %q, the page says %q", b.at, command, first, lines[i+1])
			}
			if shown := i+2 < len(lines) && lines[i+2] == "$ echo $?"; code != 0 && !shown {
				t.Errorf("%s: %s: exit code %d, which the page does not show: %s", b.at, command, code, errs)
			}
		}
	}
	g.stop()
}

// shape returns a line without the parts that differ between runs.
func shape(line string) string {
	line = regexp.MustCompile(`\d+`).ReplaceAllString(line, "0")
	return strings.Join(strings.Fields(line), " ")
}

// Every link within the project has a target.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)]*)\)`)
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			path, anchor, anchored := strings.Cut(m[1], "#")
			target := p.path
			if path != "" {
				target = filepath.Join(filepath.Dir(p.path), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", p.path, m[1], err)
			} else if anchored && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: %s: %s has no such heading", p.path, m[1], target)
			}
		}
	}
}

// anchors returns the anchors of the headings of a page.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// firstColumn returns the code in the first column of the tables in a section of a page.
func firstColumn(t *testing.T, path, heading string) (cells []string) {
	t.Helper()
	_, part, ok := strings.Cut(read(t, path), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", path, heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\|").FindAllStringSubmatch(part, -1) {
		cells = append(cells, m[1])
	}
	return cells
}

// The page on troubleshooting lists the drop reasons of package drop, in the same order.
func TestDocsDropReasons(t *testing.T) {
	t.Parallel()
	const path = "../docs/troubleshooting.md"
	var want []string
	for r := drop.None + 1; r < drop.Count; r++ {
		want = append(want, r.String())
	}
	if got := firstColumn(t, path, "Drop reasons"); !slices.Equal(got, want) {
		t.Errorf("%s explains\n%q, the reasons are\n%q", path, got, want)
	}
}

// The page on design lists the direct requirements of go.mod, in the same order.
func TestDocsDesignListsDependencies(t *testing.T) {
	t.Parallel()
	const path = "../docs/design.md"
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`) // indirect ones end with a comment
	var want []string
	for _, m := range direct.FindAllStringSubmatch(read(t, "../go.mod"), -1) {
		want = append(want, m[1])
	}
	got := slices.DeleteFunc(firstColumn(t, path, "Dependencies"), func(cell string) bool {
		return !strings.Contains(cell, ".") // our own code, in the second table
	})
	if !slices.Equal(got, want) {
		t.Errorf("%s lists\n%q, go.mod requires\n%q", path, got, want)
	}
	text := read(t, path)
	sources(t, func(folder, file string, parsed *ast.File) {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(folder, "test") {
			return
		}
		for _, p := range imported(parsed) {
			for _, module := range want {
				if (p == module || strings.HasPrefix(p, module+"/")) && strings.Contains(text, "| `"+module+"` | tests only:") {
					t.Errorf("%s imports %s, which %s keeps for tests", file, p, path)
				}
			}
		}
	})
}

// The page on configuration describes exactly the keys of the reference file.
func TestDocsKeys(t *testing.T) {
	t.Parallel()
	const path = "../docs/configuration.md"
	var root yaml.Node
	// The reference shows the rows of pool4 and bib in comments.
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(read(t, "../config/nat64d.yaml"), "\n#  ", "\n   ")), &root); err != nil {
		t.Fatal(err)
	}
	known := keys(root.Content[0], "")
	text := read(t, path)
	for _, key := range known {
		if !strings.Contains(text, "`"+key+"`") {
			t.Errorf("%s does not explain %s", path, key)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\|").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("%s explains %s, which the reference does not have", path, m[1])
		}
	}
}

// keys returns the paths of the values below a node of a YAML document. Rows of a list are written [].
func keys(n *yaml.Node, path string) (paths []string) {
	switch {
	case n.Kind == yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			paths = append(paths, keys(n.Content[i+1], strings.TrimPrefix(path+"."+n.Content[i].Value, "."))...)
		}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode:
		paths = keys(n.Content[0], path+"[]")
	default:
		paths = []string{path}
	}
	return paths
}

// The page on design shows the folders and imports of the tree.
func TestDocsDesign(t *testing.T) {
	t.Parallel()
	const path = "../docs/design.md"
	shown := map[string]string{}
	for _, b := range blocks(t, "imports") {
		for line := range strings.Lines(b.text) {
			folders, list, _ := strings.Cut(line, ":")
			for folder := range strings.SplitSeq(folders, ", ") {
				shown[folder] = strings.TrimSpace(list)
			}
		}
	}
	explained := firstColumn(t, path, "Folders")
	for folder, list := range imports {
		if got, ok := shown[folder]; !ok || got != list {
			t.Errorf("%s: %s may import %q, the page says %q", path, folder, list, got)
		}
		if !slices.Contains(explained, folder) {
			t.Errorf("%s: no row explains the folder %s", path, folder)
		}
	}
	for _, folder := range explained {
		if _, err := os.Stat(filepath.Join("..", folder)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The page on configuration lists the special IPv4 addresses of package pool6, in the same order.
func TestDocsSpecialAddresses(t *testing.T) {
	t.Parallel()
	fate := map[pool6.Class4]string{
		pool6.Global: "translated", pool6.Private: "as the policy of the prefix says", pool6.LinkLocal: "never translated", pool6.Unusable: "dropped",
	}
	text := read(t, "../docs/configuration.md")
	for _, s := range pool6.Specials4() {
		row := fmt.Sprintf("| %v | %s | %s |\n", s.Prefix, s.Name, fate[s.Class])
		_, rest, ok := strings.Cut(text, row)
		if !ok {
			t.Errorf("docs/configuration.md lacks, or has in another order: %s", row)
			continue
		}
		text = rest
	}
}
