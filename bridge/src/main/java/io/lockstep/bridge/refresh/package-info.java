/**
 * Index and caches follow refs that the sidecar moved.
 *
 * <pre>
 * RefreshPuller        takes tasks from the sidecar, has them executed, reports
 *   Subject            what a task speaks of
 *   GerritRefresher    one thread a thing, in a request's context
 *     ProjectRefresh, ChangeRefresh, AccountRefresh, GroupRefresh
 *     ChangedNotes     what differs between two versions of a note tree
 * </pre>
 *
 * <p>A task says what was moved, not what to do; doing it twice does no harm, so nothing is kept here. It runs in the
 * server that serves, never in {@code init} or {@code reindex}: they do not load {@link io.lockstep.bridge.BridgeModule}.
 */
package io.lockstep.bridge.refresh;
