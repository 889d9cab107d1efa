# Tandem build.
#
# One make process reads the whole tree: every source folder has a Kbuild file that is included
# here (nothing recurses, so -j sees all the work at once).  Words that a Kbuild may use, paths
# relative to its own folder unless stated:
#
#	obj-y += slice.o		an object of libtandem.a
#	obj-$(CONFIG_X) += sqlite/	descend into a folder
#	prog-y += tandemd		a program: its main object(s) + libtandem.a + libraries
#	tandemd-main := appliance/supervisor/main.o	(path from the top) what holds main()
#	libs-tandemd := -lfoo		further libraries of one program
#	cflags-slice.o := -DX		further flags of one object
#
# Under tests/ the same words make test programs and libtandem-test.a; tests/Kbuild lists the rest.
#
# Everything that is made goes below $(O) (default: build).  $(O)/.config is the configuration and
# is shared by all variants; SAN=asan|tsan and CC=clang build in folders of their own:
#
#	build/			gcc		build/clang/		clang
#	build/asan-gcc/		gcc, ASan+UBSan	build/asan-clang/	clang, ASan+UBSan
#	build/tsan-gcc/		gcc, TSan
#
# clang's ASan objects carry libFuzzer's coverage counters too, so that the fuzz targets need no
# variant of their own; SAN=fuzz is another word for SAN=asan CC=clang.

VERSION := 0.1.0

MAKEFLAGS += --no-builtin-rules --no-builtin-variables --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
unexport CDPATH GREP_OPTIONS

# One name for one folder, as it is in every command line: another one would build all anew.
O ?= build
override O := $(patsubst $(CURDIR)/%,%,$(abspath $(O)))
ifeq ($(abspath $(O)),$(CURDIR))
$(error O=$(O) is the source tree itself)
endif
V ?= 0
SAN ?=
PYTHON := /usr/bin/python3

ifneq ($(filter default undefined,$(origin CC)),)
CC := gcc
endif
ifneq ($(filter default undefined,$(origin AR)),)
AR := ar
endif

# --- variant ------------------------------------------------------------------------------------

ifneq ($(filter-out asan tsan fuzz,$(SAN)),)
$(error SAN=$(SAN): asan, tsan and fuzz are known)
endif
# Only clang has libFuzzer.
ifeq ($(SAN),fuzz)
override SAN := asan
ifeq ($(findstring clang,$(notdir $(lastword $(CC)))),)
override CC := clang
endif
endif

comma := ,
cc-name := $(notdir $(lastword $(CC)))
cc-is-clang := $(findstring clang,$(cc-name))
has-fuzzer := $(and $(cc-is-clang),$(filter asan,$(SAN)))
variant := $(if $(SAN),$(SAN)-$(cc-name),$(filter-out gcc cc,$(cc-name)))
B := $(O)$(if $(variant),/$(variant))

# --- goals that need no configuration and no compiler --------------------------------------------

config-goals := menuconfig nconfig oldconfig olddefconfig savedefconfig randconfig allyesconfig \
	allnoconfig alldefconfig %_defconfig list-defconfigs
plain-goals := help clean distclean deps run-deps test-deps bench-deps run test fuzz bench \
	test-crash lint docs check-kconfig check-as4 format

goals := $(or $(MAKECMDGOALS),all)
need-config := $(filter-out $(config-goals) $(plain-goals),$(goals))

# Goals that change what others read while the Makefile is parsed ("make clean all"): one after the
# other.
first-goals := $(config-goals) clean distclean deps run-deps test-deps bench-deps
ifneq ($(and $(filter $(first-goals),$(goals)),$(filter-out 1,$(words $(goals)))),)

.PHONY: $(goals) one-by-one
$(goals): one-by-one
	@:
one-by-one:
	+@set -e; for goal in $(goals); do $(MAKE) $$goal; done

else # the rest of this file

# --- output --------------------------------------------------------------------------------------

silent := $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
ifeq ($(V),0)
Q := @
say = $(if $(silent),@:,@printf '  %-7s %s\n' '$(1)' '$(2)')
else
Q :=
say = @:
endif

# --- configuration -------------------------------------------------------------------------------

DEFAULT_DEFCONFIG := lab_defconfig
configs := appliance/configs
config := $(O)/.config
autoconf-mk := $(O)/include/config/auto.conf
autoconf-h := $(O)/include/generated/autoconf.h
kconfig-files := $(wildcard Kconfig */Kconfig */*/Kconfig)

# The tools write include/config/ below the current folder, so they run inside $(O); srctree tells
# them where the Kconfig files are.
kconfig = mkdir -p $(O)/include/config $(O)/include/generated && cd $(O) && \
	srctree='$(CURDIR)' KCONFIG_CONFIG=.config KCONFIG_NOTIMESTAMP=1 \
	KCONFIG_AUTOHEADER=include/generated/.autoconf.h.new

have-kconfig = command -v kconfig-conf >/dev/null || \
	{ echo 'kconfig-conf is missing: run "make deps" first' >&2; exit 1; }

# autoconf.h keeps its time stamp when nothing in it changed.
define sync-config
$(Q)$(have-kconfig)
$(Q)$(kconfig) kconfig-conf --olddefconfig Kconfig >/dev/null
$(Q)$(kconfig) kconfig-conf --silentoldconfig Kconfig </dev/null >/dev/null
$(Q)cd $(O)/include/generated && if cmp -s .autoconf.h.new autoconf.h; then rm .autoconf.h.new; \
	else mv .autoconf.h.new autoconf.h; fi
$(Q)touch $(autoconf-mk)
endef

$(config):
	$(Q)$(have-kconfig)
	$(call say,CONFIG,$(DEFAULT_DEFCONFIG))
	$(Q)$(kconfig) kconfig-conf --defconfig='$(abspath $(configs)/$(DEFAULT_DEFCONFIG))' \
		Kconfig >/dev/null

$(autoconf-mk): $(config) $(kconfig-files)
	$(sync-config)

$(autoconf-h):
	$(sync-config)

ifneq ($(need-config),)
-include $(autoconf-mk)
endif

.PHONY: menuconfig nconfig oldconfig olddefconfig savedefconfig randconfig allyesconfig \
	allnoconfig alldefconfig list-defconfigs

menuconfig nconfig: $(config)
	$(Q)$(kconfig) kconfig-$(patsubst menuconfig,mconf,$(patsubst nconfig,nconf,$@)) Kconfig
oldconfig olddefconfig: $(config)
	$(Q)$(kconfig) kconfig-conf --$@ Kconfig
randconfig allyesconfig allnoconfig alldefconfig:
	$(Q)$(have-kconfig)
	$(Q)$(kconfig) kconfig-conf --$@ Kconfig

# DEFCONFIG=FILE says where to; the default is not the tree, so that nothing is overwritten unasked.
DEFCONFIG ?= $(O)/defconfig
savedefconfig: $(config)
	$(Q)$(kconfig) kconfig-conf --savedefconfig='$(abspath $(DEFCONFIG))' Kconfig
	@echo 'minimal configuration written to $(DEFCONFIG)'

%_defconfig:
	$(Q)$(have-kconfig)
	$(Q)test -f $(configs)/$@ || { echo 'no $(configs)/$@; there are:' $(notdir \
		$(wildcard $(configs)/*_defconfig)) >&2; exit 1; }
	$(Q)$(kconfig) kconfig-conf --defconfig='$(abspath $(configs)/$@)' Kconfig >/dev/null
	@echo '$(config) is now $@'

list-defconfigs:
	@printf '%s\n' $(notdir $(wildcard $(configs)/*_defconfig))

# --- the tree -------------------------------------------------------------------------------------

ifneq ($(need-config),)

# kbuild-walk FOLDERS: include each folder's Kbuild, then the folders that it names.
define kbuild-read
obj-y :=
prog-y :=
test-y :=
test-n :=
test- :=
tsan-y :=
shim-y :=
include $(1)Kbuild
objs += $$(addprefix $(1),$$(filter %.o,$$(obj-y)))
progs += $$(prog-y)
$$(foreach p,$$(prog-y),$$(eval dir-$$(p) := $(1)))
$$(foreach x,$$(filter %.o,$$(obj-y)),$$(eval cflags-$(1)$$(x) += $$(cflags-$$(x))))
$$(foreach x,$$(filter %.o,$$(obj-y)),$$(eval cflags-$$(x) :=))
shims += $$(addprefix $(1),$$(shim-y))
tests-off += $$(addprefix $(1),$$(test-n) $$(test-))
tests-tsan += $$(addprefix $(1),$$(tsan-y))
kbuild-next := $$(addprefix $(1),$$(filter %/,$$(obj-y)))
endef
kbuild-walk = $(foreach d,$(1),$(eval $(call kbuild-read,$(d)))$(call kbuild-walk,$(kbuild-next)))

objs :=
progs :=
shims :=
tests-off :=
tests-tsan :=
$(call kbuild-walk,./)
lib-objs := $(patsubst ./%,%,$(objs))
programs := $(progs)

objs :=
progs :=
$(call kbuild-walk,tests/)
test-objs := $(objs)
test-programs := $(progs)

unit-srcs := $(filter-out $(addsuffix .c,$(tests-off)),$(sort $(wildcard tests/unit/test_*.c)))
fuzz-srcs := $(filter-out $(addsuffix .c,$(tests-off)),$(sort $(wildcard tests/fuzz/fuzz_*.c)))
unit-names := $(basename $(unit-srcs))
tsan-names := $(filter $(tests-tsan),$(unit-names))
fuzz-names := $(basename $(fuzz-srcs))

main-objs := $(foreach p,$(programs),$($(p)-main))
test-main-objs := $(foreach p,$(test-programs),$($(p)-main))
all-objs := $(sort $(lib-objs) $(main-objs) $(test-objs) $(test-main-objs) \
	$(addsuffix .o,$(unit-names) $(if $(has-fuzzer),$(fuzz-names))))

# --- flags ----------------------------------------------------------------------------------------

packages := openssl expat libsasl2 libidn2 libcares libconfuse jansson \
	$(if $(CONFIG_STORE_SQLITE),sqlite3)
pkg-cflags := $(shell pkg-config --cflags $(packages) 2>/dev/null)
pkg-libs := $(shell pkg-config --libs $(packages) 2>/dev/null)
ifeq ($(pkg-libs),)
$(error Some of these are missing: $(packages). Run "make deps" first)
endif

warnings := -Wall -Wextra -Wshadow -Wconversion -Werror -Wformat=2 -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla

# The stack protector (__stack_chk_fail, glibc 2.4) and _FORTIFY_SOURCE (__*_chk, glibc 2.3.4 knows
# only some of them) put symbols into our objects that RHEL AS 4's glibc 2.3.4 does not have, so
# that target does without; the sanitizers do better than both.
ifeq ($(SAN)$(CONFIG_TARGET_RHEL_AS4),)
harden := -fstack-protector-strong -D_FORTIFY_SOURCE=2
endif

# A RHEL 4 loader knows no GNU_HASH section: hash-style=both keeps the old table beside it.
ldflags := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--hash-style=both

# Reports of a sanitizer name functions, files and lines: -g1 has these and is made faster.
optimize := $(if $(SAN),-O1 -fno-omit-frame-pointer -g1,-O2 -g)
ifeq ($(SAN),asan)
sanitize := -fsanitize=$(if $(has-fuzzer),fuzzer-no-link$(comma))address,undefined \
	-fno-sanitize-recover=undefined
endif
ifeq ($(SAN),tsan)
sanitize := -fsanitize=thread
endif
# gcc sees phantom uninitialised variables through the sanitizers' instrumentation.
ifneq ($(SAN),)
warnings += $(if $(cc-is-clang),,-Wno-maybe-uninitialized)
endif

cppflags := -D_GNU_SOURCE -I. -I$(O)/include -include $(autoconf-h) $(pkg-cflags)
cflags := -std=gnu17 $(optimize) -fPIE -pthread $(warnings) $(harden) $(sanitize) $(CFLAGS)
libs := $(pkg-libs) -lunistring
test-libs := -lcmocka

compile = $(CC) $(cppflags) $(cflags) $(cflags-$*.o)
link = $(CC) $(ldflags) $(sanitize) $(LDFLAGS)

# A stamp file holds a command line and is rewritten only when that changes; what was made with it
# depends on it.  stamp NAME,TEXT
define stamp-write
ifneq ($$(strip $$(file <$(B)/.stamp-$(1))),$$(strip $(2)))
$$(shell mkdir -p $(B))
$$(file >$(B)/.stamp-$(1),$$(strip $(2)))
endif
endef
ifneq ($(wildcard $(autoconf-mk)),)
$(eval $(call stamp-write,cc,$$(CC) $$(cppflags) $$(cflags)))
$(eval $(call stamp-write,ld,$$(link) $$(libs) $$(test-libs)))
$(eval $(call stamp-write,ar,$$(AR) $$(lib-objs)))
$(eval $(call stamp-write,art,$$(AR) $$(test-objs)))
$(eval $(call stamp-write,json,$$(CC) $$(cppflags) $$(cflags) $$(all-objs)))
endif
$(B)/.stamp-%: ;

# --- rules ----------------------------------------------------------------------------------------

version-h := $(O)/include/generated/version.h
$(version-h): Makefile
	$(Q)mkdir -p $(@D)
	$(Q)printf '#define TANDEM_VERSION "%s"\n' '$(VERSION)' >$@.new
	$(Q)cmp -s $@.new $@ && { rm $@.new; touch $@; } || mv $@.new $@

$(B)/obj/%.o: %.c $(B)/.stamp-cc | $(version-h)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(compile) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

lib := $(B)/libtandem.a
test-lib := $(B)/libtandem-test.a

# q, not r: two members may have the same base name, and r would keep only one of them.
define archive
$(call say,AR,$@)
$(Q)rm -f $@
$(Q)$(AR) qcsD $@ $(filter %.o,$^)
endef

$(lib): $(addprefix $(B)/obj/,$(lib-objs)) $(B)/.stamp-ar
	$(archive)
$(test-lib): $(addprefix $(B)/obj/,$(test-objs)) $(B)/.stamp-art
	$(archive)

define program-rule
$(B)/$(1): $(addprefix $(B)/obj/,$($(1)-main)) $(lib) $(B)/.stamp-ld
	$$(call say,LD,$$@)
	$$(Q)$$(link) -o $$@ $$(filter %.o,$$^) $(lib) $(libs-$(1)) $$(libs)
endef
define test-program-rule
$(B)/$(dir-$(1))$(1): $(addprefix $(B)/obj/,$($(1)-main)) $(test-lib) $(lib) $(B)/.stamp-ld
	$$(call say,LD,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(link) -o $$@ $$(filter %.o,$$^) $(test-lib) $(lib) $(libs-$(1)) $$(libs)
endef
$(foreach p,$(programs),$(eval $(call program-rule,$(p))))
$(foreach p,$(test-programs),$(eval $(call test-program-rule,$(p))))

# One cmocka program a file; a fuzz target is linked with libFuzzer's main().
$(B)/tests/unit/test_%: $(B)/obj/tests/unit/test_%.o $(test-lib) $(lib) $(B)/.stamp-ld
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(link) -o $@ $< $(test-lib) $(lib) $(libs-test_$*) $(test-libs) $(libs)
$(B)/tests/fuzz/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(test-lib) $(lib) $(B)/.stamp-ld
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(link) -fsanitize=fuzzer -o $@ $< $(test-lib) $(lib) $(libs-fuzz_$*) $(libs)

# A preloaded shim: one file, no libtandem in it.
$(addsuffix .so,$(addprefix $(B)/,$(shims))): $(B)/%.so: %.c $(B)/.stamp-cc $(B)/.stamp-ld
	$(call say,SHIM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(cppflags) $(cflags) -fPIC -shared -MMD -MP -MF $(@:.so=.d) -o $@ $< -ldl

.PHONY: all prepare objects unit-tests tsan-tests fuzz-tests test-programs list-unit list-tsan list-fuzz \
	list-objects list-build
all: $(lib) $(addprefix $(B)/,$(programs)) $(if $(variant),,$(O)/compile_commands.json)
# As a first step of something else: says nothing when there is nothing to do.
prepare: all
	@:
objects: $(addprefix $(B)/obj/,$(lib-objs) $(main-objs))
unit-tests: $(addprefix $(B)/,$(unit-names))
tsan-tests: $(addprefix $(B)/,$(tsan-names))
fuzz-tests: $(addprefix $(B)/,$(fuzz-names))
test-programs: $(foreach p,$(test-programs),$(B)/$(dir-$(p))$(p)) \
	$(addsuffix .so,$(addprefix $(B)/,$(shims)))

# What the test driver asks.
list-unit list-tsan list-fuzz:
	@printf '%s\n' $(addprefix $(B)/,$($(@:list-%=%)-names))
list-build:
	@echo $(B)
list-objects:
	@printf '%s\n' $(addprefix $(B)/obj/,$(lib-objs) $(main-objs))

# A database for clangd and its like, without a wrapper round the compiler.
empty :=
space := $(empty) $(empty)
json-entry = {"directory": "$(CURDIR)", "file": "$(1:.o=.c)", "output": "$(B)/obj/$(1)", \
	"command": "$(subst ",\",$(CC) $(cppflags) $(cflags) $(cflags-$(1)) -c -o $(B)/obj/$(1) $(1:.o=.c))"}
$(O)/compile_commands.json: $(B)/.stamp-json
	$(file >$@,[)
	$(foreach x,$(all-objs),$(file >>$@,$(if $(filter-out $(firstword $(all-objs)),$(x)),$(comma))$(call json-entry,$(x))))
	$(file >>$@,])
	@:
.PHONY: compile_commands.json
compile_commands.json: $(O)/compile_commands.json
	$(Q)cp $< $@

-include $(patsubst %.o,$(B)/obj/%.d,$(all-objs)) $(addsuffix .d,$(addprefix $(B)/,$(shims)))

endif # need-config

# --- goals that need no configuration -------------------------------------------------------------

.PHONY: help clean distclean deps run-deps test-deps bench-deps run test fuzz bench test-crash \
	lint docs check-kconfig check-as4 format

#: Build
#:   make [all]               libtandem.a and the programs
#:   make deps                install what is missing (all of it; run-deps: what "make run" needs)
#:   make run                 build and start a server to try; RUN_DIR=DIR PORT_BASE=N C2S_TLS=optional
#:   make compile_commands.json
#:   make docs                draw the state machines into docs/fsm/
#:   make format              clang-format on the C files that differ from HEAD
#:   make clean | distclean   remove what was built | and the configuration
#: Tests
#:   make test                everything; the last line is "N passed, N failed"
#:                            GROUPS="unit lint" only these groups, T=smpp only what is called so
#:   make fuzz                the fuzz targets, FUZZ_SECONDS=600 shared by all
#:   make lint                include graph, shape of functions, banned calls, newer flags
#:   make test-crash          the crash and power-cut tests, long
#:   make bench               our figures beside those of other servers (T=pairs PEERS=tandem SCALE=5)
#:   make check-kconfig       Kconfig lint, every defconfig, the lab's without each option,
#:                            N=2 random configurations (SEED=)
#:   make check-as4           what we use is not newer than Red Hat Enterprise Linux AS 4
#: Configuration (in $(O)/.config; made from lab_defconfig when there is none)
#:   make menuconfig | nconfig | oldconfig | olddefconfig
#:   make NAME_defconfig      see make list-defconfigs
#:   make savedefconfig       write the minimal form to $(O)/defconfig or DEFCONFIG=FILE
#: Variables
#:   O=DIR                    where everything goes (default: build)
#:   V=1                      show whole commands
#:   CC=gcc|clang  SAN=asan|tsan|fuzz    variants, each in its own folder below $(O)
help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

# What was built, all variants; the configuration stays.
clean:
	$(Q)rm -rf $(O)/obj $(O)/clang* $(O)/gcc-* $(O)/asan-* $(O)/tsan-* $(O)/fuzz-clang $(O)/tests \
		$(O)/include $(O)/test-logs $(O)/check $(O)/as4 $(O)/.stamp-* $(O)/libtandem*.a \
		$(O)/tandem* $(O)/fsm-print $(O)/compile_commands.json
distclean: clean
	$(Q)rm -rf $(O)/.config $(O)/.config.old $(O)/defconfig $(O)/fuzz-corpus $(O)/fuzz-crashes \
		compile_commands.json
	$(Q)rmdir $(O) 2>/dev/null || :

# All processors, unless somebody said otherwise.
sub-make = $(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

run-deps:
	$(Q)tests/deps build run
test-deps deps:
	$(Q)tests/deps build run test peers
bench-deps:
	$(Q)tests/deps build run test bench peers

# The script replaces the shell, so that Ctrl-C reaches it.
run: run-deps
	+$(Q)$(sub-make) prepare
	@exec env RUN_DIR='$(RUN_DIR)' PORT_BASE='$(PORT_BASE)' C2S_TLS='$(C2S_TLS)' BUILD='$(B)' \
		sh appliance/run.sh

# The driver starts makes of its own, one a variant, and therefore gets no job server.
GROUPS ?=
tests-run = +@exec env -u MAKEFLAGS -u MFLAGS O='$(O)' T='$(T)'
test: test-deps
	$(tests-run) tests/run $(GROUPS)
lint check-as4: test-deps
	$(tests-run) tests/run $(@:check-%=%)
check-kconfig: test-deps
	$(tests-run) N='$(N)' SEED='$(SEED)' tests/run kconfig
fuzz: test-deps
	$(tests-run) FUZZ_SECONDS='$(or $(FUZZ_SECONDS),600)' tests/run fuzz
test-crash: test-deps
	+$(Q)$(sub-make) all test-programs
	@exec env BUILD='$(abspath $(B))' $(PYTHON) tests/integration/crash.py --long
bench: bench-deps
	+$(Q)$(sub-make) all test-programs
	@exec env BUILD='$(abspath $(B))' tests/bench/run

docs:
	+$(Q)$(sub-make) all
	$(Q)mkdir -p docs/fsm && $(B)/fsm-print docs/fsm
	$(Q)$(B)/tandemctl config reference > docs/configuration.md
	$(Q)$(B)/tandemctl commands > docs/tandemctl.md
	$(Q)$(B)/tandemctl config sample > appliance/config/tandem.conf.sample

format:
	$(Q)git diff --name-only --diff-filter=d HEAD -- '*.[ch]' | xargs -r clang-format -i

endif # one goal
