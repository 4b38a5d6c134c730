# ML or REML by lme4: prints one JSON line. With cold=1 a single fit and nothing before it.
# Rscript lme4.R table=... formula=... groups=a,b reml=0|1 cold=0|1 repeats= budget= warm_table= warm_formula= warm_groups=
given <- strsplit(commandArgs(trailingOnly = TRUE), "=", fixed = TRUE)
args <- setNames(lapply(given, function(x) paste(x[-1], collapse = "=")), vapply(given, `[`, "", 1))
if (!requireNamespace("lme4", quietly = TRUE)) {
  cat('{"status": "not installed"}\n')
  quit()
}
suppressPackageStartupMessages(library(lme4))
load_ <- function(table, groups) {
  data <- read.csv(table)
  for (name in strsplit(groups, ",")[[1]]) data[[name]] <- factor(data[[name]])
  data
}
reml <- args$reml == "1"
quietly <- function(formula, data) suppressMessages(suppressWarnings(lmer(formula, data, REML = reml)))
data <- load_(args$table, args$groups)
formula <- as.formula(args$formula)
cold <- args$cold == "1"
if (!cold) invisible(quietly(as.formula(args$warm_formula), load_(args$warm_table, args$warm_groups)))
clock <- function() as.numeric(Sys.time())
times <- c()
while (length(times) == 0 ||
       (!cold && length(times) < as.integer(args$repeats) && sum(times) < as.numeric(args$budget))) {
  began <- clock()
  fit <- quietly(formula, data)
  times <- c(times, clock() - began)
}
status <- readLines("/proc/self/status")
peak <- 1024 * as.numeric(gsub("\\D", "", grep("^VmHWM", status, value = TRUE)))
cat(sprintf('{"status": "ok", "version": "%s", "seconds": %.7f, "fits": %d, "loglik": %.10f, "done": %.6f, "peak": %.0f}\n',
            packageVersion("lme4"), median(times), length(times), as.numeric(logLik(fit)), clock(),
            if (length(peak)) peak else 0))
