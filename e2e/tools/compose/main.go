// What Compose itself makes of a file: the tests in `cli/src/host/compose/compared` compare our plan with it, volume by volume.
//
// It reads one case per line from standard input, each a JSON object, and answers each with one line: the project's name, its volumes and what
// each service mounts, or an error. The options are applied in the order of `docker compose` (cmd/compose/compose.go there).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
)

type request struct {
	Folder           string            `json:"folder"`
	Files            []string          `json:"files"`
	Name             string            `json:"name"`
	EnvFiles         []string          `json:"env_files"`
	Profiles         []string          `json:"profiles"`
	ProjectDirectory string            `json:"project_directory"`
	Environment      map[string]string `json:"environment"`
}

type mount struct {
	Type        string `json:"type"`
	Source      string `json:"source"`
	Target      string `json:"target"`
	ReadOnly    bool   `json:"read_only"`
	NoCopy      bool   `json:"nocopy"`
	Subpath     string `json:"subpath"`
	Propagation string `json:"propagation"`
	SELinux     string `json:"selinux"`
	NoHostPath  bool   `json:"no_host_path"`
}

type volume struct {
	Name     string            `json:"name"`
	External bool              `json:"external"`
	Driver   string            `json:"driver"`
	Options  map[string]string `json:"options"`
	Labels   map[string]string `json:"labels"`
}

type service struct {
	Mounts      []mount  `json:"mounts"`
	Tmpfs       []string `json:"tmpfs"`
	VolumesFrom []string `json:"volumes_from"`
}

type answer struct {
	Error    string             `json:"error,omitempty"`
	Name     string             `json:"name"`
	Volumes  map[string]volume  `json:"volumes"`
	Services map[string]service `json:"services"`
	Jobs     map[string]service `json:"jobs"`
}

func main() {
	logrus.SetOutput(io.Discard)
	requests := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := requests.ReadBytes('\n')
		if len(line) > 1 {
			var asked request
			if err := json.Unmarshal(line, &asked); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(2)
			}
			if err := answers.Encode(load(asked)); err != nil {
				os.Exit(2)
			}
		}
		if err != nil {
			return
		}
	}
}

// A value that compose-go does not expect at its place ends it: that is a refusal too.
func load(asked request) (result answer) {
	defer func() {
		if reason := recover(); reason != nil {
			result = answer{Error: fmt.Sprint(reason)}
		}
	}()
	os.Clearenv()
	for key, value := range asked.Environment {
		os.Setenv(key, value)
	}
	if err := os.Chdir(asked.Folder); err != nil {
		return answer{Error: err.Error()}
	}
	os.Setenv("PWD", asked.Folder)
	if files, given := os.LookupEnv("COMPOSE_ENV_FILES"); given && len(asked.EnvFiles) == 0 {
		asked.EnvFiles = strings.Split(files, ",")
	}
	options, err := cli.NewProjectOptions(asked.Files,
		cli.WithWorkingDirectory(asked.ProjectDirectory),
		cli.WithOsEnv,
		cli.WithEnvFiles(asked.EnvFiles...),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
		cli.WithEnvFiles(asked.EnvFiles...),
		cli.WithDotEnv,
		cli.WithDefaultProfiles(asked.Profiles...),
		cli.WithName(asked.Name),
	)
	if err != nil {
		return answer{Error: err.Error()}
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return answer{Error: err.Error()}
	}
	result = answer{Name: project.Name, Volumes: map[string]volume{}, Services: map[string]service{}, Jobs: map[string]service{}}
	for key, declared := range project.Volumes {
		result.Volumes[key] = volume{declared.Name, bool(declared.External), declared.Driver, declared.DriverOpts, declared.Labels}
	}
	for name, one := range project.Services {
		result.Services[name] = service{mounts(one.Volumes), one.Tmpfs, one.VolumesFrom}
		for index, hook := range one.PreStart {
			if len(hook.Volumes) == 0 {
				continue
			}
			result.Services[fmt.Sprintf("%s/pre_start[%d]", name, index)] = service{Mounts: mounts(hook.Volumes)}
		}
	}
	for name, one := range project.Jobs {
		result.Jobs[name] = service{mounts(one.Volumes), one.Tmpfs, one.VolumesFrom}
	}
	return result
}

func mounts(configured []types.ServiceVolumeConfig) []mount {
	all := []mount{}
	for _, one := range configured {
		shown := mount{Type: one.Type, Source: one.Source, Target: one.Target, ReadOnly: one.ReadOnly}
		if one.Volume != nil {
			shown.NoCopy, shown.Subpath = one.Volume.NoCopy, one.Volume.Subpath
		}
		if one.Image != nil {
			shown.Subpath = one.Image.SubPath
		}
		if one.Bind != nil {
			shown.Propagation, shown.SELinux, shown.NoHostPath = one.Bind.Propagation, one.Bind.SELinux, !bool(one.Bind.CreateHostPath)
		}
		all = append(all, shown)
	}
	return all
}
